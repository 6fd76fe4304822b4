//! 24 high sharpen: too much of an unsharp mask.

use super::filter::{gaussian, separable};
use crate::Rgb;
use crate::colour::{from_lab, to_byte, to_lab};

/// Standard deviation of the mask's Gaussian, pixels.
const RADIUS: f64 = 3.0;

/// `amount` times what a Gaussian takes from L is added to L (MATLAB's `imsharpen`).
pub(super) fn sharpen(picture: &Rgb, amount: f64) -> Rgb {
    let mut lab = to_lab(picture);
    let lightness: Vec<f32> = lab.iter().copied().step_by(3).collect();
    let kernel = gaussian((2.0 * RADIUS).ceil() as usize, RADIUS);
    let smooth = separable(&lightness, picture.width(), 1, &kernel);
    let amount = amount as f32;
    for ((pixel, sharp), smooth) in lab.chunks_exact_mut(3).zip(lightness).zip(smooth) {
        pixel[0] = sharp + amount * (sharp - smooth);
    }
    picture.with_data(from_lab(&lab).into_iter().map(to_byte).collect())
}
