//! 1 Gaussian, 2 lens and 3 motion blur.

use super::filter::{self, Kernel, convolve, normalised, separable, to_floats};
use crate::Rgb;
use crate::colour::to_byte;

/// `sigma`: pixels; the filter ends at 2·sigma, as the published one does.
pub(super) fn gaussian(picture: &Rgb, sigma: f64) -> Rgb {
    let kernel = filter::gaussian((2.0 * sigma).ceil() as usize, sigma);
    let blurred = separable(&to_floats(picture), picture.width(), 3, &kernel);
    picture.with_data(blurred.into_iter().map(to_byte).collect())
}

/// `radius`: of a uniform disc, pixels.
pub(super) fn lens(picture: &Rgb, radius: f64) -> Rgb {
    convolve(picture, &disc(radius))
}

/// `length`: of the path, pixels; `angle`: counter-clockwise from the right, degrees.
pub(super) fn motion(picture: &Rgb, length: f64, angle: u32) -> Rgb {
    convolve(picture, &line(length, angle))
}

/// Each weight is the area that the disc covers of its pixel (MATLAB's `fspecial('disk', radius)`), integrated over
/// 512 strips a pixel: square roots are the same on every machine.
fn disc(radius: f64) -> Kernel {
    const STRIPS: usize = 512;
    let reach = (radius - 0.5).ceil().max(0.0) as usize;
    let covered = |x: f64, y: f64| {
        (0..STRIPS)
            .map(|strip| {
                let u = x - 0.5 + (strip as f64 + 0.5) / STRIPS as f64;
                let half = (radius * radius - u * u).max(0.0).sqrt();
                (half.min(y + 0.5) - (-half).max(y - 0.5)).max(0.0)
            })
            .sum::<f64>()
    };
    square(reach, covered)
}

/// Each weight falls from 1 to 0 over a pixel's distance from the path (MATLAB's `fspecial('motion', length, angle)`).
fn line(length: f64, angle: u32) -> Kernel {
    let half = (length.max(1.0) - 1.0) / 2.0;
    let (sin, cos) = f64::from(angle % 180).to_radians().sin_cos();
    // MATLAB's small step down keeps a path that ends on a pixel's edge from reaching the next pixel.
    let reach = |extent: f64| (half * extent.abs() + 1.0 - 1e-9) as usize;
    let (reach_x, reach_y) = (reach(cos), reach(sin));
    let near = |x: f64, y: f64| {
        if x.abs() > reach_x as f64 || y.abs() > reach_y as f64 {
            return 0.0;
        }
        // Rows go down, angles up.
        let (along, off) = (x * cos - y * sin, x * sin + y * cos);
        let beyond = if x * x + y * y >= half * half { half - along.abs() } else { 0.0 };
        (1.0 - (off * off + beyond * beyond).sqrt()).max(0.0)
    };
    square(reach_x.max(reach_y), near)
}

fn square(radius: usize, weight: impl Fn(f64, f64) -> f64) -> Kernel {
    let side = 2 * radius + 1;
    let offset = |i: usize| i as f64 - radius as f64;
    let weights: Vec<f64> = (0..side * side).map(|i| weight(offset(i % side), offset(i / side))).collect();
    Kernel { radius, weights: normalised(&weights) }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::FRAC_1_PI;

    use super::{Kernel, disc, gaussian, line};
    use crate::Rgb;

    fn close(kernel: &Kernel, expected: &[f32]) {
        assert_eq!(kernel.weights.len(), expected.len());
        for (weight, expected) in kernel.weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-4, "{:?}", kernel.weights);
        }
    }

    #[test]
    fn the_disc_is_matlabs() {
        // fspecial('disk', 1)
        close(&disc(1.0), &[0.0251, 0.1453, 0.0251, 0.1453, FRAC_1_PI, 0.1453, 0.0251, 0.1453, 0.0251]);
        assert_eq!(disc(8.0).radius, 8);
        assert!((disc(8.0).weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_motion_is_matlabs() {
        // fspecial('motion', 4, 0), ('motion', 3, 90), ('motion', 1, 33)
        close(&line(4.0, 0), &{
            let mut k = [0.0; 25];
            k[10..15].copy_from_slice(&[0.125, 0.25, 0.25, 0.25, 0.125]);
            k
        });
        let third = 1.0 / 3.0;
        close(&line(3.0, 90), &[0.0, third, 0.0, 0.0, third, 0.0, 0.0, third, 0.0]);
        let point = line(1.0, 33);
        assert_eq!(point.weights.iter().filter(|w| **w > 0.0).count(), 1, "{:?}", point.weights);
        // fspecial('motion', 5, 45): rising to the right.
        let rising = line(5.0, 45);
        assert_eq!(rising.radius, 2);
        assert!(rising.weights[4] > 0.0 && rising.weights[0] == 0.0, "{:?}", rising.weights);
    }

    #[test]
    fn a_blurred_edge_keeps_its_mean_and_loses_its_step() {
        let step =
            Rgb::new(64, 8, (0..64 * 8).flat_map(|i| [if i % 64 < 32 { 40 } else { 200 }; 3]).collect());
        let step = step.expect("512 pixels");
        let blurred = gaussian(&step, 2.0);
        let mean = |p: &Rgb| p.data().iter().map(|&v| f64::from(v)).sum::<f64>() / p.data().len() as f64;
        assert!((mean(&step) - mean(&blurred)).abs() < 0.5);
        assert_eq!(blurred.data()[..3], [40; 3]);
        assert!(blurred.row(4)[31 * 3] > 90 && blurred.row(4)[32 * 3] < 150);
    }
}
