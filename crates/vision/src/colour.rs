//! CIE L*a*b* (D65) and sRGB, from tables: no power is taken a pixel, and every machine gets the same bits.

use std::sync::OnceLock;

use crate::Rgb;

/// Steps of the interpolated tables over [0, 1].
const STEPS: usize = 8192;

/// D65, as white's X and Z; its Y is 1.
const WHITE: [f32; 3] = [0.950_456, 1.0, 1.088_754];

struct Tables {
    /// Linear light of an 8-bit value.
    linear: [f32; 256],
    /// CIE's f over [0, 1].
    f: Vec<f32>,
    /// The 8-bit scale's value, 0 to 255, of linear light over [0, 1].
    encoded: Vec<f32>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let linear = |v: f64| if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
        let f = |t: f64| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
        let encoded =
            |v: f64| 255.0 * if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        // One more than the steps, and one for the interpolation at the end.
        let over = |function: &dyn Fn(f64) -> f64| {
            (0..STEPS + 2).map(|i| coarse(function(i as f64 / STEPS as f64))).collect()
        };
        Tables {
            linear: std::array::from_fn(|v| coarse(linear(v as f64 / 255.0))),
            f: over(&f),
            encoded: over(&encoded),
        }
    })
}

/// Rounded far below a visible step and far above what two machines' powers differ by.
fn coarse(value: f64) -> f32 {
    ((value * f64::from(1 << 24)).round() / f64::from(1 << 24)) as f32
}

fn interpolate(table: &[f32], x: f32) -> f32 {
    let scaled = x.clamp(0.0, 1.0) * STEPS as f32;
    let index = scaled as usize;
    let part = scaled - index as f32;
    table[index] + (table[index + 1] - table[index]) * part
}

/// `[pixels, 3]`: L from 0 to 100, a and b around 0.
pub(crate) fn to_lab(picture: &Rgb) -> Vec<f32> {
    let tables = tables();
    let mut lab = Vec::with_capacity(picture.data().len());
    for pixel in picture.data().chunks_exact(3) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|v| tables.linear[usize::from(v)]);
        let x = 0.412_453 * r + 0.357_58 * g + 0.180_423 * b;
        let y = 0.212_671 * r + 0.715_16 * g + 0.072_169 * b;
        let z = 0.019_334 * r + 0.119_193 * g + 0.950_227 * b;
        let [x, y, z] = [x / WHITE[0], y / WHITE[1], z / WHITE[2]].map(|v| interpolate(&tables.f, v));
        lab.extend([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]);
    }
    lab
}

/// `[pixels, 3]` of L*a*b* as sRGB on the scale from 0 to 255, clipped, not yet rounded.
pub(crate) fn from_lab(lab: &[f32]) -> Vec<f32> {
    let tables = tables();
    let mut rgb = Vec::with_capacity(lab.len());
    for pixel in lab.chunks_exact(3) {
        let y = (pixel[0] + 16.0) / 116.0;
        let [x, y, z] = [y + pixel[1] / 500.0, y, y - pixel[2] / 200.0].map(cube_or_line);
        let (x, z) = (x * WHITE[0], z * WHITE[2]);
        let r = 3.240_479 * x - 1.537_15 * y - 0.498_535 * z;
        let g = -0.969_256 * x + 1.875_992 * y + 0.041_556 * z;
        let b = 0.055_648 * x - 0.204_043 * y + 1.057_311 * z;
        rgb.extend([r, g, b].map(|v| interpolate(&tables.encoded, v)));
    }
    rgb
}

/// The inverse of CIE's f.
fn cube_or_line(f: f32) -> f32 {
    if f > 0.206_893 { f * f * f } else { (f - 16.0 / 116.0) / 7.787 }
}

/// Rounds half up to 8 bits.
pub(crate) fn to_byte(value: f32) -> u8 {
    (value + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::{from_lab, to_byte, to_lab};
    use crate::Rgb;

    #[test]
    fn lab_is_cies() {
        // MATLAB's rgb2lab: red, mid grey, white.
        let picture = Rgb::new(3, 1, vec![255, 0, 0, 119, 119, 119, 255, 255, 255]).expect("3 pixels");
        let expected = [53.24, 80.09, 67.20, 50.03, 0.0, 0.0, 100.0, 0.0, 0.0];
        for (value, expected) in to_lab(&picture).iter().zip(expected) {
            assert!((value - expected).abs() < 0.05, "{value}, not {expected}");
        }
    }

    #[test]
    fn there_and_back_changes_no_byte() {
        let data: Vec<u8> = (0..256 * 3).map(|i| (i * 89 % 256) as u8).collect();
        let picture = Rgb::new(256, 1, data).expect("256 pixels");
        let back: Vec<u8> = from_lab(&to_lab(&picture)).into_iter().map(to_byte).collect();
        assert_eq!(back, picture.data());
    }
}
