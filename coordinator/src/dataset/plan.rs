//! What is made of each photograph: names, places, draws. Nothing here touches a pixel.

use serde::{Deserialize, Serialize};
use vision::Draws;

use super::scan::Laplacian;
use super::split::{Part, Shares};

/// What a data set depends on, besides the photographs. Two equal ones give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// The data set's name, in its manifests.
    pub(super) name: String,
    /// KADID-10k's numbers of the distortion types.
    pub(super) kinds: Vec<u8>,
    /// Levels of each, 1 to 5.
    pub(super) levels: Vec<u8>,
    /// Side of a validation or test picture, pixels.
    pub(super) size: usize,
    /// Side of a training picture, pixels; the photograph's shorter side where that is less.
    pub(super) train_size: usize,
    /// Cuts of each distorted photograph, by part.
    pub(super) crops: [u32; 3],
    /// Places drawn for a cut, of which the one with the most detail is taken.
    pub(super) candidates: u32,
    /// Training cuts have places of their own at every type and level, for variety.
    pub(super) own_places: bool,
    /// The longer side that photographs are scaled down to, pixels.
    pub(super) max_side: usize,
    /// Photographs with less detail are left out.
    pub(super) min_detail: f64,
    /// Train, validation, test.
    pub(super) split: Shares,
    /// Every draw derives from it.
    pub(super) seed: u64,
}

impl Settings {
    pub(super) fn crops(&self, part: Part) -> u32 {
        self.crops[part as usize]
    }

    /// Of a cut of a photograph of `width` × `height`, pixels.
    pub(super) fn side(&self, part: Part, width: usize, height: usize) -> usize {
        let wanted = if part == Part::Train { self.train_size } else { self.size };
        wanted.min(width).min(height)
    }

    /// Whether a cut has the same place at every type and level.
    pub(super) fn shares_places(&self, part: Part) -> bool {
        part != Part::Train || !self.own_places
    }
}

/// `I01`, with as many digits as the last of `count` photographs needs, two at least.
pub(super) fn number(index: usize, count: usize) -> String {
    let digits = count.to_string().len().max(2);
    format!("I{:0digits$}", index + 1)
}

/// `I01_10_03.png`, as KADID-10k names type 10 at level 3 of its picture I01; with several cuts `I01_10_03.c2.png`.
pub(super) fn distorted_name(photo: &str, kind: u8, level: u8, crop: u32, crops: u32) -> String {
    format!("{photo}_{kind:02}_{level:02}{}.png", suffix(crop, crops))
}

/// `I01.png`, with several cuts `I01.c2.png`.
pub(super) fn reference_name(photo: &str, crop: u32, crops: u32) -> String {
    format!("{photo}{}.png", suffix(crop, crops))
}

fn suffix(crop: u32, crops: u32) -> String {
    if crops > 1 { format!(".c{}", crop + 1) } else { String::new() }
}

/// The draws of one photograph: they depend on its bytes and the seed, not on the photographs beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds {
    seed: u64,
    photo: u64,
}

impl Seeds {
    /// Streams' names, so that no two purposes draw alike.
    const PLACES: u64 = 0x706c_6163;
    const NOISE: u64 = 0x6e6f_6973;

    /// `sha256`: the file's, hexadecimal.
    pub(super) fn new(seed: u64, sha256: &str) -> Self {
        let photo =
            sha256.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
        Self { seed, photo }
    }

    /// What the distortions of the photograph draw from.
    pub(super) fn noise(self) -> u64 {
        Draws::new(self.seed, [Self::NOISE, self.photo, 0]).word()
    }

    /// Upper left corners of `count` cuts of `side` pixels; `cell` is 0 for those that all types and levels share.
    pub(super) fn places(
        self,
        cell: u64,
        within: &Within<'_>,
        count: u32,
        candidates: u32,
    ) -> Vec<(usize, usize)> {
        let mut draws = Draws::new(self.seed, [Self::PLACES, self.photo, cell]);
        let Within { width, height, side, laplacian } = *within;
        let mut place = || {
            let mut along = |length: usize| draws.below((length - side + 1) as u32) as usize;
            (along(width), along(height))
        };
        let detail =
            |&(x, y): &(usize, usize)| laplacian.deviation(x, y, side - side.min(2), side - side.min(2));
        (0..count)
            .map(|_| {
                let first = place();
                let others = (1..candidates).map(|_| place());
                // The first of equals stays.
                others.fold((first, detail(&first)), |best, other| {
                    let found = detail(&other);
                    if found > best.1 { (other, found) } else { best }
                })
            })
            .map(|(place, _)| place)
            .collect()
    }
}

/// Where cuts may lie: `side` is at most `width` and `height`.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) side: usize,
    pub(super) laplacian: &'a Laplacian,
}

/// The stream of the places that belong to one type and level alone.
pub(super) fn cell(kind: u8, level: u8) -> u64 {
    u64::from(kind) << 8 | u64::from(level)
}

#[cfg(test)]
mod tests {
    use vision::Rgb;

    use super::{Seeds, Within, distorted_name, number, reference_name};
    use crate::dataset::scan::Laplacian;

    #[test]
    fn names_are_kadids() {
        assert_eq!((number(0, 33).as_str(), number(99, 100).as_str()), ("I01", "I100"));
        assert_eq!(distorted_name("I01", 10, 3, 0, 1), "I01_10_03.png");
        assert_eq!(distorted_name("I01", 10, 3, 1, 4), "I01_10_03.c2.png");
        assert_eq!(
            (reference_name("I01", 0, 1), reference_name("I01", 1, 2)),
            ("I01.png".into(), "I01.c2.png".into())
        );
    }

    #[test]
    fn cuts_lie_inside_and_prefer_detail() {
        // Only the right half has any.
        let data =
            (0..200 * 50).flat_map(|i| [if i % 200 >= 100 { (i * 97 % 251) as u8 } else { 0 }; 3]).collect();
        let picture = Rgb::new(200, 50, data).expect("sized");
        let laplacian = Laplacian::of(&picture);
        let within = Within { width: 200, height: 50, side: 50, laplacian: &laplacian };
        let seeds = Seeds::new(5, "0123456789abcdef");
        let places = seeds.places(0, &within, 40, 8);
        assert!(places.iter().all(|&(x, y)| x <= 150 && y == 0));
        let right = places.iter().filter(|(x, _)| *x > 75).count();
        assert!(right > 36, "{right} of 40");
        assert_eq!(places, seeds.places(0, &within, 40, 8));
        assert_ne!(places, seeds.places(1, &within, 40, 8));
        assert_ne!(places, Seeds::new(5, "fedcba9876543210").places(0, &within, 40, 8));
    }
}
