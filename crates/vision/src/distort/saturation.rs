//! 4 colour diffusion, 7 and 8 saturation: wrong colours under the right lightness.

use super::filter::{gaussian, separable};
use crate::Rgb;
use crate::colour::{from_lab, to_byte, to_lab};

/// a and b are blurred with a standard deviation of 1.5 · `amount` + 2 pixels and multiplied by `amount`.
pub(super) fn diffuse(picture: &Rgb, amount: f64) -> Rgb {
    let mut lab = to_lab(picture);
    let sigma = 1.5 * amount + 2.0;
    let kernel = gaussian((2.0 * sigma).ceil() as usize, sigma);
    let colours: Vec<f32> = lab.chunks_exact(3).flat_map(|pixel| [pixel[1], pixel[2]]).collect();
    let smooth = separable(&colours, picture.width(), 2, &kernel);
    for (pixel, smooth) in lab.chunks_exact_mut(3).zip(smooth.chunks_exact(2)) {
        pixel[1] = smooth[0] * amount as f32;
        pixel[2] = smooth[1] * amount as f32;
    }
    picture.with_data(from_lab(&lab).into_iter().map(to_byte).collect())
}

/// The saturation of HSV times `factor`: every value's distance to the pixel's largest one is.
pub(super) fn hsv(picture: &Rgb, factor: f64) -> Rgb {
    let factor = factor as f32;
    let data = picture.data().chunks_exact(3).flat_map(|pixel| {
        let top = f32::from(pixel[0].max(pixel[1]).max(pixel[2]));
        [pixel[0], pixel[1], pixel[2]].map(|v| to_byte(top - factor * (top - f32::from(v))))
    });
    picture.with_data(data.collect())
}

/// a and b times `factor`.
pub(super) fn lab(picture: &Rgb, factor: f64) -> Rgb {
    let mut lab = to_lab(picture);
    for pixel in lab.chunks_exact_mut(3) {
        pixel[1] *= factor as f32;
        pixel[2] *= factor as f32;
    }
    picture.with_data(from_lab(&lab).into_iter().map(to_byte).collect())
}
