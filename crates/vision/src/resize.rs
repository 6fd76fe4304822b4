//! Pillow's bicubic resampling, bit for bit, and the published processor's choice of size.
//!
//! Two passes over 8-bit values with 22-bit fixed-point weights and rounding after each pass (Pillow's `Resample.c`).
//! Libraries with 16-bit weights are faster and differ in the last bit; so does the other order of the passes.

use crate::rgb::check_size;
use crate::{Error, Rgb};

/// Fractional bits of a weight: 32 less 8 of the pixel and 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;

/// Half the width of the cubic at scale 1, pixels.
const SUPPORT: f64 = 2.0;

/// The picture at `width` × `height`, as Pillow 13's `resize((width, height), Image.Resampling.BICUBIC)` gives it.
///
/// # Errors
/// If a side is zero or there are more than [`crate::MAX_PIXELS`] pixels.
pub fn resize(picture: &Rgb, width: usize, height: usize) -> Result<Rgb, Error> {
    check_size(width, height)?;
    if rows_first((picture.width(), picture.height()), (width, height)) {
        across(&down(picture, height)?, width)
    } else {
        down(&across(picture, width)?, height)
    }
}

/// Pillow 13 resamples the height first where it loses more than twice what the width loses (found by comparison over
/// thousands of sizes; earlier versions resample the width first whatever the size).
fn rows_first((from_width, from_height): (usize, usize), (width, height): (usize, usize)) -> bool {
    let loss = |from: usize, to: usize| from as i64 - to as i64;
    height < from_height && loss(from_height, height) > 2 * loss(from_width, width)
}

/// What one output pixel is made of: `weights.len()` input pixels from `start` on.
struct Taps {
    start: usize,
    weights: Vec<i32>,
}

/// The taps of each of `to` output pixels over `from` input pixels.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let widening = scale.max(1.0);
    let support = SUPPORT * widening;
    let step = 1.0 / widening;
    (0..to)
        .map(|out| {
            let centre = (out as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let raw: Vec<f64> = (start..end).map(|x| cubic((x as f64 - centre + 0.5) * step)).collect();
            let sum: f64 = raw.iter().sum();
            let weights = raw.iter().map(|w| fixed(w / sum)).collect();
            Taps { start, weights }
        })
        .collect()
}

/// The cubic convolution kernel with a = −0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// The picture at another width.
fn across(picture: &Rgb, width: usize) -> Result<Rgb, Error> {
    if width == picture.width() {
        return Ok(picture.clone());
    }
    let taps = taps(picture.width(), width);
    let mut out = Vec::with_capacity(width * 3 * picture.height());
    for y in 0..picture.height() {
        let row = picture.row(y);
        for tap in &taps {
            let mut sum = [HALF; 3];
            for (pixel, &weight) in row[tap.start * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sum.map(clip));
        }
    }
    Rgb::new(width, picture.height(), out)
}

/// The picture at another height.
fn down(picture: &Rgb, height: usize) -> Result<Rgb, Error> {
    if height == picture.height() {
        return Ok(picture.clone());
    }
    let stride = picture.width() * 3;
    let mut out = Vec::with_capacity(height * stride);
    let mut sums = vec![0; stride];
    for tap in taps(picture.height(), height) {
        sums.fill(HALF);
        for (row, &weight) in picture.data()[tap.start * stride..].chunks_exact(stride).zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().copied().map(clip));
    }
    Rgb::new(picture.width(), height, out)
}

/// The size (height, width) at which the model looks at a picture: multiples of `factor` near the picture's own sides,
/// with `min_pixels` to `max_pixels` pixels in all, aspect ratio kept (`smart_resize` of Qwen2-VL; Python's rounding).
///
/// # Errors
/// If the aspect ratio is above 200, a side or `factor` is zero, or the size is beyond [`crate::MAX_PIXELS`].
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<(usize, usize), Error> {
    check_size(width, height)?;
    if factor == 0 || max_pixels == 0 {
        return Err(Error::Settings(format!("factor {factor} and max_pixels {max_pixels} must be above 0")));
    }
    let ratio = width.max(height) as f64 / width.min(height) as f64;
    if ratio > 200.0 {
        return Err(Error::Aspect { width, height, ratio });
    }
    let (unit, h, w) = (factor as f64, height as f64, width as f64);
    let nearest = |side: f64| (side / unit).round_ties_even() * unit;
    let (mut new_h, mut new_w) = (nearest(h), nearest(w));
    if new_h * new_w > max_pixels as f64 {
        let beta = (h * w / max_pixels as f64).sqrt();
        new_h = ((h / beta / unit).floor() * unit).max(unit);
        new_w = ((w / beta / unit).floor() * unit).max(unit);
    } else if new_h * new_w < min_pixels as f64 {
        let beta = (min_pixels as f64 / (h * w)).sqrt();
        new_h = (h * beta / unit).ceil() * unit;
        new_w = (w * beta / unit).ceil() * unit;
    }
    let (new_h, new_w) = (new_h as usize, new_w as usize);
    check_size(new_w, new_h)?;
    Ok((new_h, new_w))
}

#[cfg(test)]
mod tests {
    use super::{resize, smart_resize};
    use crate::{Error, Rgb};

    #[test]
    fn sizes_are_those_of_the_published_processor() {
        // transformers 5.23, smart_resize(height, width, 28, 3136, 200704) and (…, 28, 3136, 12845056).
        for (size, small, large) in [
            ((112, 112), (112, 112), (112, 112)),
            ((42, 70), (56, 56), (56, 56)),
            ((14, 14), (56, 56), (56, 56)),
            ((1, 200), (28, 812), (28, 812)),
            ((683, 1024), (364, 532), (672, 1036)),
            ((2448, 4352), (336, 588), (2436, 4340)),
            ((4000, 6000), (364, 532), (2912, 4368)),
        ] {
            let (h, w) = size;
            assert_eq!(smart_resize(h, w, 28, 3136, 200_704).expect("fits"), small, "{h}x{w}");
            assert_eq!(smart_resize(h, w, 28, 3136, 12_845_056).expect("fits"), large, "{h}x{w}");
        }
    }

    #[test]
    fn a_picture_longer_than_two_hundred_times_its_width_is_refused() {
        assert!(matches!(smart_resize(1, 201, 28, 3136, 200_704), Err(Error::Aspect { .. })));
        assert!(smart_resize(0, 5, 28, 3136, 200_704).is_err());
        assert!(smart_resize(5, 5, 0, 3136, 200_704).is_err());
        assert!(smart_resize(5, 5, 28, usize::MAX, usize::MAX).is_err());
    }

    #[test]
    fn the_same_size_changes_nothing_and_a_flat_picture_stays_flat() {
        let picture = Rgb::new(5, 4, (0..60).map(|v| v * 4).collect()).expect("20 pixels");
        assert_eq!(resize(&picture, 5, 4).expect("same"), picture);
        let flat = Rgb::new(9, 7, vec![131; 189]).expect("63 pixels");
        for (width, height) in [(1, 1), (3, 20), (50, 2)] {
            assert!(resize(&flat, width, height).expect("fits").data().iter().all(|&v| v == 131));
        }
    }
}
