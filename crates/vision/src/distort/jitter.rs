//! 19 jitter: every pixel is taken from nearby, five times over.

use super::filter::to_floats;
use crate::colour::to_byte;
use crate::random::normal_table;
use crate::{Draws, Rgb};

const ROUNDS: usize = 5;

/// `sigma`: standard deviation of a displacement along each axis, pixels; interpolation is bilinear.
pub(super) fn jitter(picture: &Rgb, sigma: f64, draws: &mut Draws) -> Rgb {
    let (width, height) = (picture.width(), picture.height());
    let table = normal_table();
    let sigma = sigma as f32;
    let (last_x, last_y) = ((width - 1) as f32, (height - 1) as f32);
    let mut from = to_floats(picture);
    let mut to = vec![0.0; from.len()];
    let mut halves = vec![0; width * 2];
    for _ in 0..ROUNDS {
        for (y, row) in to.chunks_exact_mut(width * 3).enumerate() {
            draws.halves(&mut halves);
            for (x, (out, half)) in row.chunks_exact_mut(3).zip(halves.chunks_exact(2)).enumerate() {
                let at_x = (x as f32 + sigma * table[usize::from(half[0])]).clamp(0.0, last_x);
                let at_y = (y as f32 + sigma * table[usize::from(half[1])]).clamp(0.0, last_y);
                let (left, top) = (at_x as usize, at_y as usize);
                let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
                let (part_x, part_y) = (at_x - left as f32, at_y - top as f32);
                let pixel = |x: usize, y: usize| &from[(y * width + x) * 3..(y * width + x) * 3 + 3];
                let corners =
                    [pixel(left, top), pixel(right, top), pixel(left, bottom), pixel(right, bottom)];
                for (channel, out) in out.iter_mut().enumerate() {
                    let [a, b, c, d] = corners.map(|corner| corner[channel]);
                    let (upper, lower) = (a + (b - a) * part_x, c + (d - c) * part_x);
                    *out = upper + (lower - upper) * part_y;
                }
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
    picture.with_data(from.into_iter().map(to_byte).collect())
}
