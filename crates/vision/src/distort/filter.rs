//! Linear filters with replicated edges, in f32 with a fixed order of additions.

use crate::Rgb;
use crate::colour::to_byte;

/// A separable filter over interleaved rows: `[height, width, channels]` to the same. `kernel` has an odd length.
pub(super) fn separable(data: &[f32], width: usize, channels: usize, kernel: &[f32]) -> Vec<f32> {
    let stride = width * channels;
    let radius = kernel.len() / 2;
    let mut across = Vec::with_capacity(data.len());
    let mut padded = Vec::new();
    let mut sums = vec![0.0_f32; stride];
    for row in data.chunks_exact(stride) {
        pad(row, channels, radius, &mut padded);
        sums.fill(0.0);
        for (tap, &weight) in kernel.iter().enumerate() {
            add(&mut sums, &padded[tap * channels..], weight);
        }
        across.extend_from_slice(&sums);
    }
    let height = data.len() / stride;
    let mut out = Vec::with_capacity(data.len());
    for y in 0..height {
        sums.fill(0.0);
        for (tap, &weight) in kernel.iter().enumerate() {
            let from = (y + tap).saturating_sub(radius).min(height - 1);
            add(&mut sums, &across[from * stride..], weight);
        }
        out.extend_from_slice(&sums);
    }
    out
}

/// Weights over `[2·radius + 1, 2·radius + 1]`, row by row.
pub(super) struct Kernel {
    pub(super) radius: usize,
    pub(super) weights: Vec<f32>,
}

/// The picture under any kernel.
pub(super) fn convolve(picture: &Rgb, kernel: &Kernel) -> Rgb {
    let side = 2 * kernel.radius + 1;
    let height = picture.height();
    let rows: Vec<Vec<f32>> = (0..height)
        .map(|y| {
            let row: Vec<f32> = picture.row(y).iter().map(|&v| f32::from(v)).collect();
            let mut padded = Vec::new();
            pad(&row, 3, kernel.radius, &mut padded);
            padded
        })
        .collect();
    let mut sums = vec![0.0_f32; picture.width() * 3];
    let mut out = Vec::with_capacity(picture.data().len());
    for y in 0..height {
        sums.fill(0.0);
        for (tap, &weight) in kernel.weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let from = (y + tap / side).saturating_sub(kernel.radius).min(height - 1);
            add(&mut sums, &rows[from][tap % side * 3..], weight);
        }
        out.extend(sums.iter().copied().map(to_byte));
    }
    picture.with_data(out)
}

fn add(sums: &mut [f32], values: &[f32], weight: f32) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += value * weight;
    }
}

fn pad(row: &[f32], channels: usize, radius: usize, padded: &mut Vec<f32>) {
    padded.clear();
    let (first, last) = (&row[..channels], &row[row.len() - channels..]);
    (0..radius).for_each(|_| padded.extend_from_slice(first));
    padded.extend_from_slice(row);
    (0..radius).for_each(|_| padded.extend_from_slice(last));
}

/// MATLAB's `fspecial('gaussian', 2·radius + 1, sigma)`, one axis of it.
pub(super) fn gaussian(radius: usize, sigma: f64) -> Vec<f32> {
    let weights: Vec<f64> = (0..=2 * radius)
        .map(|i| {
            let x = i as f64 - radius as f64;
            (-x * x / (2.0 * sigma * sigma)).exp()
        })
        .collect();
    normalised(&weights)
}

/// Sums to 1, rounded far above what two machines' functions differ by.
pub(super) fn normalised(weights: &[f64]) -> Vec<f32> {
    let sum: f64 = weights.iter().sum();
    let unit = f64::from(1 << 24);
    weights.iter().map(|w| ((w / sum * unit).round() / unit) as f32).collect()
}

pub(super) fn to_floats(picture: &Rgb) -> Vec<f32> {
    picture.data().iter().map(|&v| f32::from(v)).collect()
}
