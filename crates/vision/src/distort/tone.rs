//! 16 brighten, 17 darken, 18 mean shift: another curve from light to value.

use crate::Rgb;
use crate::colour::{from_lab, to_byte, to_lab};

/// The parabola through black, white and (0.5, 0.5 + `amount` / 2), clipped: on L of L*a*b* and on the values
/// themselves, mixed one to two.
pub(super) fn brighten(picture: &Rgb, amount: f64) -> Rgb {
    let curve = Curve::through(0.5 + amount / 2.0);
    let mut lab = to_lab(picture);
    for pixel in lab.chunks_exact_mut(3) {
        pixel[0] = curve.at(pixel[0] / 100.0) * 100.0;
    }
    let values = curve.of_bytes();
    let mixed = from_lab(&lab).into_iter().zip(picture.data()).map(|(light, &v)| {
        let value = values[usize::from(v)];
        to_byte((2.0 * value + light) / 3.0)
    });
    picture.with_data(mixed.collect())
}

/// The parabola through black, white and (0.5, 0.5 − `amount` / 2), on the values.
pub(super) fn darken(picture: &Rgb, amount: f64) -> Rgb {
    let values = Curve::through(0.5 - amount / 2.0).of_bytes().map(to_byte);
    picture.with_data(picture.data().iter().map(|&v| values[usize::from(v)]).collect())
}

/// `amount` on [0, 1] is added to every value.
pub(super) fn mean_shift(picture: &Rgb, amount: f64) -> Rgb {
    let shift = (amount * 255.0) as f32;
    picture.with_data(picture.data().iter().map(|&v| to_byte(f32::from(v) + shift)).collect())
}

/// a·x² + b·x on [0, 1], clipped.
struct Curve {
    a: f32,
    b: f32,
}

impl Curve {
    fn through(middle: f64) -> Self {
        Self { a: (2.0 - 4.0 * middle) as f32, b: (4.0 * middle - 1.0) as f32 }
    }

    fn at(&self, x: f32) -> f32 {
        ((self.a * x + self.b) * x).clamp(0.0, 1.0)
    }

    /// Each 8-bit value's, from 0 to 255.
    fn of_bytes(&self) -> [f32; 256] {
        std::array::from_fn(|v| self.at(v as f32 / 255.0) * 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, brighten, darken};
    use crate::Rgb;

    #[test]
    fn the_curve_keeps_black_and_white_and_moves_grey() {
        let curve = Curve::through(0.7);
        assert!(
            (curve.at(0.5) - 0.7).abs() < 1e-6 && curve.at(0.0) == 0.0 && (curve.at(1.0) - 1.0).abs() < 1e-6
        );
        let ramp = Rgb::new(256, 1, (0..=255).flat_map(|v| [v; 3]).collect()).expect("256 pixels");
        let (light, dark) = (brighten(&ramp, 0.4), darken(&ramp, 0.4));
        assert!(light.data()[384] > 128 + 40 && dark.data()[384] < 128 - 40);
        assert_eq!((light.data()[0], light.data()[767], dark.data()[0], dark.data()[767]), (0, 255, 0, 255));
    }
}
