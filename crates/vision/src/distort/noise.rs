//! 11 white, 12 white in YCbCr, 13 impulse and 14 multiplicative noise.

use crate::colour::to_byte;
use crate::random::normal_table;
use crate::{Draws, Rgb};

/// `variance` on [0, 1], of each value on its own.
pub(super) fn white(picture: &Rgb, variance: f64, draws: &mut Draws) -> Rgb {
    let sigma = (variance.sqrt() * 255.0) as f32;
    with_normals(picture, draws, |pixel, noise, out| {
        for ((out, &value), noise) in out.iter_mut().zip(pixel).zip(noise) {
            *out = to_byte(f32::from(value) + sigma * noise);
        }
    })
}

/// `variance` on [0, 1] of Y, Cb and Cr each; the way back to RGB (ITU-R BT.601) mixes them.
pub(super) fn white_ycbcr(picture: &Rgb, variance: f64, draws: &mut Draws) -> Rgb {
    let sigma = (variance.sqrt() * 255.0) as f32;
    with_normals(picture, draws, |pixel, noise, out| {
        let [y, cb, cr] = [sigma * noise[0], sigma * noise[1], sigma * noise[2]];
        let mixed = [1.164 * y + 1.596 * cr, 1.164 * y - 0.392 * cb - 0.813 * cr, 1.164 * y + 2.017 * cb];
        for ((out, &value), noise) in out.iter_mut().zip(pixel).zip(mixed) {
            *out = to_byte(f32::from(value) + noise);
        }
    })
}

/// Each value becomes 0 or 255 with probability `density` / 2 each.
pub(super) fn impulse(picture: &Rgb, density: f64, draws: &mut Draws) -> Rgb {
    let share = density * 4_294_967_296.0;
    let (pepper, either) = ((share / 2.0) as u32, share as u32);
    let mut data = picture.data().to_vec();
    let mut words = vec![0; picture.width() * 3];
    for row in data.chunks_exact_mut(words.len()) {
        draws.quarters(&mut words);
        for (value, &word) in row.iter_mut().zip(&words) {
            if word < either {
                *value = if word < pepper { 0 } else { 255 };
            }
        }
    }
    picture.with_data(data)
}

/// Each value is multiplied by a uniform factor around 1 of this `variance` (MATLAB's speckle).
pub(super) fn multiplicative(picture: &Rgb, variance: f64, draws: &mut Draws) -> Rgb {
    let width = ((12.0 * variance).sqrt() / 65_536.0) as f32;
    let mut data = Vec::with_capacity(picture.data().len());
    let mut halves = vec![0; picture.width() * 3];
    for row in picture.data().chunks_exact(halves.len()) {
        draws.halves(&mut halves);
        data.extend(row.iter().zip(&halves).map(|(&value, &half)| {
            let value = f32::from(value);
            to_byte(value + value * width * (f32::from(half) - 32_767.5))
        }));
    }
    picture.with_data(data)
}

/// Gives every pixel three standard normal draws.
fn with_normals(picture: &Rgb, draws: &mut Draws, pixel: impl Fn(&[u8], [f32; 3], &mut [u8])) -> Rgb {
    let table = normal_table();
    let mut data = vec![0; picture.data().len()];
    let mut halves = vec![0; picture.width() * 3];
    let stride = halves.len();
    for (row, out) in picture.data().chunks_exact(stride).zip(data.chunks_exact_mut(stride)) {
        draws.halves(&mut halves);
        for ((value, half), out) in
            row.chunks_exact(3).zip(halves.chunks_exact(3)).zip(out.chunks_exact_mut(3))
        {
            pixel(value, [half[0], half[1], half[2]].map(|h| table[usize::from(h)]), out);
        }
    }
    picture.with_data(data)
}

#[cfg(test)]
mod tests {
    use super::{impulse, multiplicative, white, white_ycbcr};
    use crate::{Draws, Rgb};

    fn grey() -> Rgb {
        Rgb::new(300, 300, vec![128; 270_000]).expect("90,000 pixels")
    }

    fn variance(picture: &Rgb, channel: usize) -> f64 {
        let values: Vec<f64> =
            picture.data().iter().skip(channel).step_by(3).map(|&v| f64::from(v) / 255.0).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn noise_has_the_variance_that_its_parameter_says() {
        let draws = || Draws::new(3, [0; 3]);
        assert!((variance(&white(&grey(), 0.005, &mut draws()), 1) / 0.005 - 1.0).abs() < 0.02);
        // Red takes 1.164² of Y's and 1.596² of Cr's.
        assert!(
            (variance(&white_ycbcr(&grey(), 0.001, &mut draws()), 0) / (0.001 * 3.902) - 1.0).abs() < 0.02
        );
        let grey_squared = (128.0_f64 / 255.0).powi(2);
        assert!(
            (variance(&multiplicative(&grey(), 0.02, &mut draws()), 2) / (0.02 * grey_squared) - 1.0).abs()
                < 0.02
        );
    }

    #[test]
    fn impulses_are_as_many_as_their_density_and_half_of_them_white() {
        let noisy = impulse(&grey(), 0.03, &mut Draws::new(3, [0; 3]));
        let count = |value: u8| noisy.data().iter().filter(|v| **v == value).count() as f64 / 270_000.0;
        assert!((count(0) - 0.015).abs() < 0.001 && (count(255) - 0.015).abs() < 0.001);
        assert!((count(128) - 0.97).abs() < 0.002);
    }
}
