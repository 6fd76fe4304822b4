//! `worker init`: a fresh checkpoint from a model's configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use checkpoint::{Manifest, SHARD_BYTES, Staging};
use model::fresh::{self, PatchFilters};
use model::{Config, Processor};
use safetensors::{Dtype as Stored, View};

use crate::commands::request::Dtype;
use crate::failure::Failure;

/// Arguments of `worker init`.
#[derive(clap::Args)]
pub struct Args {
    /// A directory with config.json, tokenizer and processor files; weights in it are not read.
    #[arg(long, value_name = "DIR")]
    model_config: PathBuf,
    /// Where the checkpoint goes; must not exist.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Every draw derives from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The weights' type on disk.
    #[arg(long, value_enum, default_value = "bfloat16")]
    dtype: Dtype,
    /// How the vision tower's patch filters start.
    #[arg(long, value_enum, default_value = "random")]
    patch_filters: Filters,
}

/// How patch filters start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Filters {
    /// As every other matrix.
    Random,
    /// A cosine basis, and a first block that measures energies: for judging textures.
    Cosine,
}

/// Makes the checkpoint.
///
/// # Errors
/// If the configuration is wrong or incomplete, or the output exists or cannot be written.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { model_config: source, output, seed, dtype, patch_filters } = args;
    let at = |e: &dyn std::fmt::Display| Failure::input(format!("{}: {e}", source.display()));
    let config = Config::read(&source).map_err(|e| at(&e))?;
    Processor::read(&source, &config).map_err(Failure::input)?;
    let filters = match patch_filters {
        Filters::Random => PatchFilters::Random,
        Filters::Cosine => PatchFilters::Cosine,
    };
    let weights = fresh::weights(&config, seed, filters).map_err(|e| at(&e))?;
    let half = dtype == Dtype::Bfloat16;
    let weights: BTreeMap<String, Weight> = weights
        .into_iter()
        .map(|(name, (shape, values))| {
            let shape = shape.into_iter().map(|side| side as usize).collect();
            (name, Weight { shape, bytes: bytes(&values, half), half })
        })
        .collect();
    let staging = Staging::begin(&output).map_err(Failure::input)?;
    let spelling = if half { "bfloat16" } else { "float32" };
    let files = checkpoint::export(&source, staging.path(), weights, spelling, SHARD_BYTES)
        .map_err(Failure::input)?;
    staging.publish(&Manifest { files, ..Manifest::default() }).map_err(Failure::other)?;
    Ok(())
}

/// Little-endian f32, or bf16 rounded to the nearest, ties to even.
fn bytes(values: &[f32], half: bool) -> Vec<u8> {
    if !half {
        return values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    let round = |v: &f32| {
        let bits = v.to_bits();
        (((u64::from(bits) + 0x7fff + u64::from((bits >> 16) & 1)) >> 16) as u16).to_le_bytes()
    };
    values.iter().flat_map(round).collect()
}

struct Weight {
    shape: Vec<usize>,
    bytes: Vec<u8>,
    half: bool,
}

impl View for Weight {
    fn dtype(&self) -> Stored {
        if self.half { Stored::BF16 } else { Stored::F32 }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn halves_are_rounded_to_the_nearest_even() {
        let exact = 1.0_f32;
        let tie_down = f32::from_bits(0x3f80_8000);
        let tie_up = f32::from_bits(0x3f81_8000);
        assert_eq!(bytes(&[exact, tie_down, tie_up], true), [0x80, 0x3f, 0x80, 0x3f, 0x82, 0x3f]);
    }
}
