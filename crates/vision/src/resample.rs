//! Pillow's bicubic resampling, bit for bit.
//!
//! Two passes over 8-bit values with 22-bit fixed-point weights and rounding after each pass (Pillow's `Resample.c`).
//! Libraries with 16-bit weights are faster and differ in the last bit; so does the other order of the passes. The
//! sums are exact whole numbers, so that how they are vectorised changes nothing.

use crate::Rgb;

/// Fractional bits of a weight: 32 less 8 of the pixel and 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;

const HALF: i32 = 1 << (PRECISION - 1);

/// Half the width of the cubic at scale 1, pixels.
const SUPPORT: f64 = 2.0;

/// Bytes of a row that are summed at once, in registers.
const TILE: usize = 32;

/// What each output pixel is made of: `count` input pixels from its start on, some of weight zero.
struct Taps {
    starts: Vec<usize>,
    /// `[outputs, count]`.
    weights: Vec<i32>,
    count: usize,
}

impl Taps {
    /// Of `to` output pixels over `from` input pixels. A start plus `count` may lie beyond `from`: of weight zero.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let widening = scale.max(1.0);
        let support = SUPPORT * widening;
        let step = 1.0 / widening;
        let spans = (0..to).map(|out| {
            let centre = (out as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            (centre, start, ((centre + support + 0.5) as usize).min(from))
        });
        let count = spans.clone().map(|(_, start, end)| end - start).max().unwrap_or(0);
        let mut weights = Vec::with_capacity(to * count);
        let mut raw = Vec::with_capacity(count);
        for (centre, start, end) in spans.clone() {
            raw.clear();
            raw.extend((start..end).map(|x| cubic((x as f64 - centre + 0.5) * step)));
            let sum: f64 = raw.iter().sum();
            weights.extend(raw.iter().map(|w| fixed(w / sum)));
            weights.resize(weights.len() + count - raw.len(), 0);
        }
        Self { starts: spans.map(|(_, start, _)| start).collect(), weights, count }
    }

    /// Start and weights of each output pixel.
    fn each(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.count))
    }
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

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The picture's bytes at another width, `[height, width, 3]`.
pub(crate) fn across(picture: &Rgb, width: usize) -> Vec<u8> {
    let taps = Taps::new(picture.width(), width);
    let mut out = vec![0; width * 3 * picture.height()];
    // Behind its end a row is read where the weight is zero, and a pixel is loaded with the byte after it.
    let mut row = vec![0; (picture.width() + taps.count) * 3 + 1];
    for (y, out) in out.chunks_exact_mut(width * 3).enumerate() {
        row[..picture.width() * 3].copy_from_slice(picture.row(y));
        row_across(&row, &taps, out);
    }
    out
}

/// The picture's bytes at another height, `[height, width, 3]`.
pub(crate) fn down(picture: &Rgb, height: usize) -> Vec<u8> {
    let stride = picture.width() * 3;
    let mut out = vec![0; height * stride];
    let taps = Taps::new(picture.height(), height);
    for ((start, weights), out) in taps.each().zip(out.chunks_exact_mut(stride)) {
        let inside = &weights[..weights.len().min(picture.height() - start)];
        row_down(&picture.data()[start * stride..], inside, out);
    }
    out
}

/// One row at another width.
fn row_across(row: &[u8], taps: &Taps, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        unsafe { row_across_avx2(row, taps, out) };
        return;
    }
    row_across_plain(row, taps, out);
}

fn row_across_plain(row: &[u8], taps: &Taps, out: &mut [u8]) {
    for ((start, weights), out) in taps.each().zip(out.chunks_exact_mut(3)) {
        let mut sums = [HALF; 3];
        for (pixel, &weight) in row[start * 3..].chunks_exact(3).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        out.copy_from_slice(&sums.map(clip));
    }
}

/// As [`row_across_plain`], a pixel's channels at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn row_across_avx2(row: &[u8], taps: &Taps, out: &mut [u8]) {
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_cvtepu8_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_mullo_epi32,
        _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi32, _mm_srai_epi32,
    };
    for ((start, weights), out) in taps.each().zip(out.chunks_exact_mut(3)) {
        let mut sums = _mm_set1_epi32(HALF);
        // The fourth byte is the next pixel's, and falls away.
        let pixels = row[start * 3..].windows(4).step_by(3);
        for (pixel, &weight) in pixels.zip(weights) {
            let pixel = i32::from_le_bytes([pixel[0], pixel[1], pixel[2], pixel[3]]);
            let values = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(pixel));
            sums = _mm_add_epi32(sums, _mm_mullo_epi32(values, _mm_set1_epi32(weight)));
        }
        let words = _mm_packs_epi32(_mm_srai_epi32::<{ PRECISION as i32 }>(sums), sums);
        let bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
        out.copy_from_slice(&bytes[..3]);
    }
}

/// One row at another height: the weighted sum of the first of `rows`.
fn row_down(rows: &[u8], weights: &[i32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        unsafe { row_down_avx2(rows, weights, out) };
        return;
    }
    row_down_plain(rows, weights, out);
}

/// As [`row_down_plain`], which the compiler makes wider vectors of here.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn row_down_avx2(rows: &[u8], weights: &[i32], out: &mut [u8]) {
    row_down_plain(rows, weights, out);
}

#[inline(always)]
fn row_down_plain(rows: &[u8], weights: &[i32], out: &mut [u8]) {
    let stride = out.len();
    let mut tiles = out.chunks_exact_mut(TILE);
    let mut at = 0;
    for tile in tiles.by_ref() {
        let mut sums = [HALF; TILE];
        for (tap, &weight) in weights.iter().enumerate() {
            let values = &rows[tap * stride + at..tap * stride + at + TILE];
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += i32::from(value) * weight;
            }
        }
        for (out, sum) in tile.iter_mut().zip(sums) {
            *out = clip(sum);
        }
        at += TILE;
    }
    for (x, out) in tiles.into_remainder().iter_mut().enumerate() {
        let values = weights.iter().enumerate().map(|(tap, &w)| i32::from(rows[tap * stride + at + x]) * w);
        *out = clip(HALF + values.sum::<i32>());
    }
}

#[cfg(test)]
mod tests {
    use super::{Taps, across, down, row_across_plain, row_down_plain};
    use crate::Rgb;

    /// Neighbouring values are unrelated, so that a wrong tap shows.
    fn picture(width: usize, height: usize) -> Rgb {
        let value = |i: usize| ((i * 2_654_435_761) >> 13) as u8;
        Rgb::new(width, height, (0..width * height * 3).map(value).collect()).expect("fits")
    }

    #[test]
    fn the_processors_vectors_change_no_value() {
        for (from, to) in [((97, 31), (53, 64)), ((13, 7), (40, 3)), ((200, 5), (7, 9)), ((5, 200), (11, 6))]
        {
            let picture = picture(from.0, from.1);
            let taps = Taps::new(from.0, to.0);
            let mut row = vec![0; to.0 * 3];
            let mut padded = picture.row(0).to_vec();
            padded.resize((from.0 + taps.count) * 3 + 1, 0);
            row_across_plain(&padded, &taps, &mut row);
            assert_eq!(row, across(&picture, to.0)[..row.len()], "{from:?} to {to:?}");
            let taps = Taps::new(from.1, to.1);
            let (start, weights) = taps.each().next().expect("a row");
            let mut row = vec![0; from.0 * 3];
            let inside = &weights[..weights.len().min(from.1 - start)];
            row_down_plain(&picture.data()[start * row.len()..], inside, &mut row);
            assert_eq!(row, down(&picture, to.1)[..row.len()], "{from:?} to {to:?}");
        }
    }
}
