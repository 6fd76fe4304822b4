//! 6 colour quantisation: few colours, dithered (MATLAB's `rgb2ind(picture, colours)`).

use crate::Rgb;

/// Bits a channel of the histogram and of the look-up.
const BITS: u32 = 5;
const SIDE: usize = 1 << BITS;

/// At most `colours` colours, 1 to 255, chosen to leave the least variance; their errors spread by Floyd and Steinberg.
pub(super) fn quantise(picture: &Rgb, colours: usize) -> Rgb {
    let palette = palette(picture, colours.clamp(1, 255));
    let nearest = nearest_of_cells(&palette);
    let width = picture.width();
    let mut data = Vec::with_capacity(picture.data().len());
    // Sixteenths, with a pixel of room on either side.
    let mut here = vec![[0_i32; 3]; width + 2];
    let mut below = here.clone();
    for y in 0..picture.height() {
        for (x, pixel) in picture.row(y).chunks_exact(3).enumerate() {
            let wanted: [i32; 3] =
                std::array::from_fn(|c| (i32::from(pixel[c]) + (here[x + 1][c] >> 4)).clamp(0, 255));
            let colour = palette[usize::from(nearest[cell(wanted)])];
            for c in 0..3 {
                let error = wanted[c] - i32::from(colour[c]);
                here[x + 2][c] += 7 * error;
                below[x][c] += 3 * error;
                below[x + 1][c] += 5 * error;
                below[x + 2][c] += error;
            }
            data.extend(colour);
        }
        std::mem::swap(&mut here, &mut below);
        below.fill([0; 3]);
    }
    picture.with_data(data)
}

fn cell(colour: [i32; 3]) -> usize {
    colour.iter().fold(0, |index, &v| index << BITS | (v >> (8 - BITS)) as usize)
}

/// For each cell of the colour cube, the palette's colour nearest to its centre.
fn nearest_of_cells(palette: &[[u8; 3]]) -> Vec<u8> {
    let centre = |cell: usize| {
        [2 * BITS, BITS, 0]
            .map(|shift| ((cell >> shift & (SIDE - 1)) << (8 - BITS)) as i32 + (1 << (7 - BITS)))
    };
    let distance = |a: [i32; 3], b: [u8; 3]| (0..3).map(|c| (a[c] - i32::from(b[c])).pow(2)).sum::<i32>();
    (0..SIDE.pow(3))
        .map(|cell| {
            let centre = centre(cell);
            (0..palette.len()).min_by_key(|&i| distance(centre, palette[i])).unwrap_or(0) as u8
        })
        .collect()
}

/// Pixels, their sum and the sum of their squares.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: i64,
    sum: [i64; 3],
    square: i64,
}

impl Moments {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.square += other.square;
        for (sum, other) in self.sum.iter_mut().zip(other.sum) {
            *sum += other;
        }
    }

    fn less(&self, other: &Self) -> Self {
        Self {
            count: self.count - other.count,
            sum: std::array::from_fn(|c| self.sum[c] - other.sum[c]),
            square: self.square - other.square,
        }
    }

    /// |sum|² / count: the more of it the parts of a box have, the less variance is left.
    fn explained(&self) -> f64 {
        let squared: f64 = self.sum.iter().map(|&s| (s as f64) * (s as f64)).sum();
        if self.count == 0 { 0.0 } else { squared / self.count as f64 }
    }

    fn variance(&self) -> f64 {
        self.square as f64 - self.explained()
    }

    fn mean(&self) -> [u8; 3] {
        self.sum.map(|s| ((s + self.count / 2) / self.count.max(1)) as u8)
    }
}

/// A box of the colour cube: its occupied cells and their moments together.
struct Region {
    cells: Vec<(usize, Moments)>,
    all: Moments,
}

impl Region {
    fn of(cells: Vec<(usize, Moments)>) -> Self {
        let mut all = Moments::default();
        cells.iter().for_each(|(_, moments)| all.add(moments));
        Self { cells, all }
    }

    /// The axis (as a shift of the cell's index) and the last plane of the lower part that explain the most.
    fn best_plane(&self) -> Option<(u32, usize)> {
        let mut best = (self.all.explained(), None);
        for shift in [2 * BITS, BITS, 0] {
            let mut planes = [Moments::default(); SIDE];
            for (cell, moments) in &self.cells {
                planes[cell >> shift & (SIDE - 1)].add(moments);
            }
            let mut lower = Moments::default();
            for (plane, moments) in planes.iter().enumerate() {
                lower.add(moments);
                let upper = self.all.less(&lower);
                let explained = lower.explained() + upper.explained();
                if lower.count > 0 && upper.count > 0 && explained > best.0 {
                    best = (explained, Some((shift, plane)));
                }
            }
        }
        best.1
    }
}

/// Wu's variance-minimising cuts: the box with the most variance is cut at its best plane until there are enough.
fn palette(picture: &Rgb, colours: usize) -> Vec<[u8; 3]> {
    let mut cube = vec![Moments::default(); SIDE.pow(3)];
    for pixel in picture.data().chunks_exact(3) {
        let colour: [i32; 3] = std::array::from_fn(|c| i32::from(pixel[c]));
        let sum = colour.map(i64::from);
        cube[cell(colour)].add(&Moments { count: 1, sum, square: sum.iter().map(|v| v * v).sum() });
    }
    let mut open =
        vec![Region::of(cube.into_iter().enumerate().filter(|(_, moments)| moments.count > 0).collect())];
    let mut whole = Vec::new();
    while open.len() + whole.len() < colours {
        let most = (0..open.len()).max_by(|&a, &b| open[a].all.variance().total_cmp(&open[b].all.variance()));
        let Some(most) = most else { break };
        let cut = open.swap_remove(most);
        match cut.best_plane() {
            Some((shift, plane)) => {
                let (lower, upper) =
                    cut.cells.into_iter().partition(|(cell, _)| (cell >> shift & (SIDE - 1)) <= plane);
                open.extend([Region::of(lower), Region::of(upper)]);
            }
            None => whole.push(cut),
        }
    }
    open.iter().chain(&whole).map(|part| part.all.mean()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{palette, quantise};
    use crate::Rgb;

    #[test]
    fn a_picture_of_few_colours_keeps_them() {
        let colours = [[10, 200, 30], [250, 250, 250], [0, 0, 0], [90, 40, 160]];
        let picture = Rgb::new(8, 8, (0..64).flat_map(|i| colours[i % 4]).collect()).expect("64 pixels");
        assert_eq!(palette(&picture, 8).into_iter().collect::<BTreeSet<_>>(), colours.into_iter().collect());
        assert_eq!(quantise(&picture, 8), picture);
    }

    #[test]
    fn a_ramp_gets_no_more_colours_than_asked_and_keeps_its_mean() {
        let picture = Rgb::new(
            256,
            16,
            (0..4096).flat_map(|i| [(i % 256) as u8, 128, 255 - (i % 256) as u8]).collect(),
        );
        let picture = picture.expect("4,096 pixels");
        let coarse = quantise(&picture, 8);
        let distinct: BTreeSet<&[u8]> = coarse.data().chunks_exact(3).collect();
        assert!((4..=8).contains(&distinct.len()), "{}", distinct.len());
        let mean = |p: &Rgb| p.data().iter().map(|&v| f64::from(v)).sum::<f64>() / p.data().len() as f64;
        assert!((mean(&picture) - mean(&coarse)).abs() < 1.5);
    }
}
