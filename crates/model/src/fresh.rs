//! Weights to start from: random ones, and a vision tower that begins with a cosine transform.
//!
//! A random patch filter sees colours before it sees textures. With [`PatchFilters::Cosine`] the filters are the
//! low part of a two-dimensional cosine transform, high frequencies amplified as photographs have little of
//! them, and the first block's MLP squares each coefficient: energies in frequency bands, which is what blur,
//! noise and blocking change.

use std::collections::BTreeMap;
use std::f64::consts::{PI, TAU};

use vision::Draws;

use crate::config::{Config, VisionConfig};
use crate::names::{EMBEDDING, expected};

/// How the patch filters of the vision tower start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchFilters {
    /// As every other matrix.
    Random,
    /// A cosine basis, and a first block that measures energies.
    Cosine,
}

/// Most parameters of fresh weights: 16 GB of f32.
const MOST: f64 = 4e9;

/// A weight's shape and its values, row by row.
pub type Fresh = (Vec<i64>, Vec<f32>);

/// Fresh weights by canonical name, the same for a seed: matrices N(0, 1/inputs), half of that deviation where
/// they end a residual branch; embeddings N(0, 0.05²); norms 1; biases 0.
///
/// # Errors
/// If there are more of them than are drawn in memory, or cosine filters are asked for and the tower's shapes do not
/// take them: a message that says which.
pub fn weights(config: &Config, seed: u64, filters: PatchFilters) -> Result<BTreeMap<String, Fresh>, String> {
    let mut all: BTreeMap<String, Fresh> = BTreeMap::new();
    let shapes = expected(config);
    let count: f64 =
        shapes.values().map(|shape| shape.iter().map(|&side| side as f64).product::<f64>()).sum();
    if count > MOST {
        return Err(format!(
            "config.json describes {count:.3e} parameters, fresh weights are drawn in memory: expected at most {MOST:.0e}"
        ));
    }
    for (name, shape) in shapes {
        let values = Normal::of(seed, &name).matrix(&shape, deviation(&name, &shape));
        all.insert(name, (shape, values));
    }
    if filters == PatchFilters::Cosine {
        let vision = &config.vision;
        cosine_fits(vision)?;
        let mut set = |name: &str, values: Vec<f32>| {
            if let Some((_, old)) = all.get_mut(name) {
                *old = values;
            }
        };
        set("visual.patch_embed.proj.weight", cosine_filters(vision));
        energy_block(vision, seed, &mut set);
    }
    Ok(all)
}

/// Standard deviation at the start; None for what starts at 1 (norms).
fn deviation(name: &str, shape: &[i64]) -> Option<f64> {
    if shape.len() == 1 {
        return name.ends_with(".bias").then_some(0.0);
    }
    if name == EMBEDDING {
        return Some(0.05);
    }
    let inputs: i64 = shape[1..].iter().product();
    let ends_branch =
        ["o_proj.weight", "down_proj.weight", "attn.proj.weight"].iter().any(|end| name.ends_with(end));
    Some(if ends_branch { 0.5 } else { 1.0 } / (inputs as f64).sqrt())
}

/// Filters of the chroma differences; the rest are of luminance.
const CHROMA_FILTERS: i64 = 6;

fn cosine_fits(vision: &VisionConfig) -> Result<(), String> {
    let (hidden, most) = (vision.hidden, vision.patch * vision.patch + 2 * CHROMA_FILTERS);
    if hidden <= 2 * CHROMA_FILTERS || hidden > most {
        return Err(format!(
            "cosine filters need a vision hidden_size above {} and at most {most}, found {hidden}",
            2 * CHROMA_FILTERS
        ));
    }
    if vision.channels != 3 || vision.intermediate != 2 * hidden {
        return Err(format!(
            "cosine filters need 3 channels and a vision intermediate_size of twice the hidden_size {hidden}, found {} and {}",
            vision.channels, vision.intermediate
        ));
    }
    Ok(())
}

/// `[hidden, channels, time, patch, patch]`: orthonormal cosine functions by rising frequency, of luminance,
/// then of the two chroma differences; amplitude 0.1 · (1 + frequency)^2.5.
fn cosine_filters(vision: &VisionConfig) -> Vec<f32> {
    // CLIP's deviations: the pixel values that filters see are divided by them.
    let std = [0.268_629_54, 0.261_302_58, 0.275_777_11];
    let weighed = |colour: [f64; 3], norm: f64| {
        let scaled: Vec<f64> = colour.iter().zip(std).map(|(c, s)| c * s).collect();
        let sum: f64 = scaled.iter().map(|c| c.abs()).sum();
        scaled.into_iter().map(|c| c * norm / sum).collect::<Vec<_>>()
    };
    let luminance = weighed([0.299, 0.587, 0.114], 1.0);
    let (blue, red) = (weighed([-0.169, -0.331, 0.5], 2.0), weighed([0.5, -0.419, -0.081], 2.0));

    let side = vision.patch;
    let mut frequencies: Vec<(i64, i64)> = (0..side).flat_map(|u| (0..side).map(move |v| (u, v))).collect();
    frequencies.sort_by_key(|&(u, v)| (u + v, u));
    let of_luminance = (vision.hidden - 2 * CHROMA_FILTERS) as usize;
    let chroma = &frequencies[..CHROMA_FILTERS as usize];
    let filters = (frequencies[..of_luminance].iter().map(|f| (&luminance, f)))
        .chain(chroma.iter().map(|f| (&blue, f)))
        .chain(chroma.iter().map(|f| (&red, f)));

    let cosine = |frequency: i64, place: i64| {
        let scale = if frequency == 0 { (1.0 / side as f64).sqrt() } else { (2.0 / side as f64).sqrt() };
        scale * (PI * (place as f64 + 0.5) * frequency as f64 / side as f64).cos()
    };
    let mut values = Vec::new();
    for (colour, &(u, v)) in filters {
        let gain = 0.1 * (1.0 + (u as f64).hypot(v as f64)).powf(2.5) / vision.temporal_patch as f64;
        for weight in colour {
            for _ in 0..vision.temporal_patch {
                for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
                    values.push((gain * weight * cosine(u, y) * cosine(v, x)) as f32);
                }
            }
        }
    }
    values
}

/// Block 0 measures energies: gate and up read z and −z, and silu(z)·z + silu(−z)·(−z) = z².
fn energy_block(vision: &VisionConfig, seed: u64, set: &mut impl FnMut(&str, Vec<f32>)) {
    let hidden = vision.hidden as usize;
    let signed: Vec<f32> = (0..2 * hidden)
        .flat_map(|row| (0..hidden).map(move |column| (row, column)))
        .map(|(row, column)| match row {
            row if row == column => 1.0,
            row if row == column + hidden => -1.0,
            _ => 0.0,
        })
        .collect();
    set("visual.blocks.0.mlp.gate_proj.weight", signed.clone());
    set("visual.blocks.0.mlp.up_proj.weight", signed);

    let half = 0.5 / (hidden as f64).sqrt();
    let (square, wide) = ([hidden as i64, hidden as i64], [hidden as i64]);
    let down = Normal::of(seed, "energy.down").matrix(&square, Some(half));
    let twice = down.chunks(hidden).flat_map(|row| [row, row].concat()).collect();
    set("visual.blocks.0.mlp.down_proj.weight", twice);
    // A constant beside the energies, so that the norm that follows keeps their size.
    set("visual.blocks.0.attn.proj.bias", Normal::of(seed, "energy.constant").matrix(&wide, Some(0.3)));
    let attention = Normal::of(seed, "energy.attention").matrix(&square, Some(half * 0.2));
    set("visual.blocks.0.attn.proj.weight", attention);
}

/// Normal draws, named by a seed and a weight.
struct Normal(Draws);

impl Normal {
    fn of(seed: u64, name: &str) -> Self {
        // FNV-1a: a weight's draws depend on its own name alone.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(Draws::new(seed, [0x66_72_65_73, hash, name.len() as u64]))
    }

    /// Box and Muller.
    fn next(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.uniform()).ln()).sqrt();
        radius * (TAU * self.0.uniform()).cos()
    }

    /// Values of a shape with a deviation; ones where there is none.
    fn matrix(mut self, shape: &[i64], deviation: Option<f64>) -> Vec<f32> {
        let count = shape.iter().product::<i64>() as usize;
        match deviation {
            None => vec![1.0; count],
            Some(0.0) => vec![0.0; count],
            Some(deviation) => (0..count).map(|_| (deviation * self.next()) as f32).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_deviation_asked_for_and_differ_by_name() {
        let draws = Normal::of(1, "a").matrix(&[100, 100], Some(0.5));
        let mean = draws.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e4;
        let variance = draws.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.02 && (variance.sqrt() - 0.5).abs() < 0.02, "{mean} {variance}");
        assert_ne!(draws, Normal::of(1, "b").matrix(&[100, 100], Some(0.5)));
        assert_eq!(draws, Normal::of(1, "a").matrix(&[100, 100], Some(0.5)));
    }

    #[test]
    fn more_weights_than_fit_in_memory_are_refused_before_they_are_drawn() {
        let mut config = crate::testing::tiny_config();
        (config.text.hidden, config.text.vocab) = (1 << 24, 1 << 24);
        let said = weights(&config, 1, PatchFilters::Random).expect_err("petabytes");
        assert!(
            said.starts_with("config.json describes 1.970e15 parameters") && said.contains("at most 4e9"),
            "{said}"
        );
    }

    #[test]
    fn branch_ends_start_at_half_and_norms_at_one() {
        assert_eq!(deviation("model.layers.0.mlp.down_proj.weight", &[4, 16]), Some(0.125));
        assert_eq!(deviation("model.layers.0.mlp.up_proj.weight", &[16, 4]), Some(0.5));
        assert_eq!(deviation("model.norm.weight", &[4]), None);
        assert_eq!(deviation("visual.blocks.0.norm1.weight", &[4]), None);
        assert_eq!(deviation("visual.blocks.0.attn.qkv.bias", &[4]), Some(0.0));
    }
}
