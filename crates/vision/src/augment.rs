//! Training-time augmentation that changes no quality: a cut at native scale, flips, colours exchanged.

use crate::{Draws, Rgb};

/// What may be done to a picture in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Side of a square cut, pixels; the picture's shorter side where that is less. None: the whole picture.
    pub crop: Option<usize>,
    /// Horizontal and vertical flips, each with probability one half.
    pub flip: bool,
    /// A random order of the colour channels.
    pub permute: bool,
}

/// The stream's name, so that no other draw from the same seed is the same.
const STREAM: [u64; 3] = [0x6175_676d, 0, 0];

/// Cuts, flips and recolours a picture; the same `seed` does the same everywhere.
pub fn augment(picture: Rgb, what: Augment, seed: u64) -> Rgb {
    let mut draws = Draws::new(seed, STREAM);
    let mut place = |of: usize, side: usize| draws.below((of - side + 1) as u32) as usize;
    let cut = what.crop.map(|side| side.clamp(1, picture.width().min(picture.height()))).and_then(|side| {
        let (x, y) = (place(picture.width(), side), place(picture.height(), side));
        picture.cut(x, y, side, side).ok()
    });
    let mut picture = cut.unwrap_or(picture);
    if what.flip {
        let (mirror, upend) = (draws.below(2) == 1, draws.below(2) == 1);
        picture = flipped(&picture, mirror, upend);
    }
    if what.permute {
        let mut order = [0, 1, 2];
        draws.shuffle(&mut order);
        picture = recoloured(&picture, order);
    }
    picture
}

fn recoloured(picture: &Rgb, order: [usize; 3]) -> Rgb {
    picture
        .with_data(picture.data().as_chunks::<3>().0.iter().flat_map(|rgb| order.map(|c| rgb[c])).collect())
}

fn flipped(picture: &Rgb, mirror: bool, upend: bool) -> Rgb {
    let mut data = Vec::with_capacity(picture.data().len());
    for y in 0..picture.height() {
        let row = picture.row(if upend { picture.height() - 1 - y } else { y });
        if mirror {
            data.extend(row.rchunks_exact(3).flatten());
        } else {
            data.extend_from_slice(row);
        }
    }
    picture.with_data(data)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Augment, augment, flipped, recoloured};
    use crate::Rgb;

    fn picture() -> Rgb {
        Rgb::new(6, 4, (0..72).collect()).expect("24 pixels")
    }

    #[test]
    fn the_same_seed_cuts_at_the_same_place_and_seeds_reach_every_place() {
        let what = Augment { crop: Some(3), ..Augment::default() };
        let firsts: BTreeSet<u8> = (0..200).map(|seed| augment(picture(), what, seed).data()[0]).collect();
        assert_eq!(firsts.len(), 4 * 2, "all places of a 3x3 cut in 6x4");
        assert_eq!(augment(picture(), what, 5), augment(picture(), what, 5));
    }

    #[test]
    fn a_cut_larger_than_the_picture_takes_its_shorter_side() {
        let cut = augment(picture(), Augment { crop: Some(100), flip: true, permute: false }, 1);
        assert_eq!((cut.width(), cut.height()), (4, 4));
        let whole = augment(picture(), Augment::default(), 1);
        assert_eq!(whole, picture());
    }

    #[test]
    fn flipping_twice_changes_nothing() {
        let once = flipped(&picture(), true, true);
        assert_eq!(once.data()[..3], [69, 70, 71]);
        assert_eq!(flipped(&once, true, true), picture());
        let seen: BTreeSet<Vec<u8>> = (0..50)
            .map(|seed| augment(picture(), Augment { flip: true, ..Augment::default() }, seed).into_data())
            .collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn channels_are_exchanged_in_every_order_and_for_the_whole_picture_alike() {
        let what = Augment { permute: true, ..Augment::default() };
        let seen: BTreeSet<Vec<u8>> =
            (0..100).map(|seed| augment(picture(), what, seed).into_data()).collect();
        assert_eq!(seen.len(), 6);
        for data in seen {
            let first = data[..3].iter().map(|v| usize::from(*v)).collect::<Vec<_>>();
            let expected = recoloured(&picture(), [first[0], first[1], first[2]]);
            assert_eq!(data, expected.into_data());
        }
    }
}
