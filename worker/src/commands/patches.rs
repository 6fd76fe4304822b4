//! `worker patches`: pictures as the model takes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{Config, Processor};
use safetensors::tensor::{Dtype, TensorView};
use vision::Patches;

use super::request;
use crate::failure::Failure;

/// Arguments of `worker patches`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in Hugging Face layout; its weights are not read.
    #[arg(long)]
    model: PathBuf,
    /// Picture files.
    #[arg(long, required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Safetensors: `pixel_values` [patches, channels·time·patch·patch] f32 and `image_grid_thw` [images, 3] i64.
    #[arg(long)]
    output: PathBuf,
}

/// Decodes, resizes and cuts the pictures.
///
/// # Errors
/// If the model's processor files or a picture cannot be used, or the output not be written.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let config =
        Config::read(&args.model).map_err(|e| Failure::input(format!("{}: {e}", args.model.display())))?;
    let processor = Processor::read(&args.model, &config).map_err(Failure::input)?;
    let pictures: Vec<Patches> = args
        .images
        .iter()
        .map(|path| request::patches_of(path, &processor.patches))
        .collect::<Result<_, _>>()?;
    let values: Vec<u8> = pictures.iter().flat_map(|p| &p.values).flat_map(|v| v.to_le_bytes()).collect();
    let grids: Vec<u8> = pictures
        .iter()
        .flat_map(|p| [p.grid.t, p.grid.h, p.grid.w])
        .flat_map(|n| (n as i64).to_le_bytes())
        .collect();
    let patches: usize = pictures.iter().map(|p| p.grid.patches()).sum();
    let width = config.vision.patch_values() as usize;
    let view = |dtype, shape: Vec<usize>, bytes| TensorView::new(dtype, shape, bytes).map_err(Failure::other);
    let tensors = BTreeMap::from([
        ("pixel_values".to_owned(), view(Dtype::F32, vec![patches, width], &values)?),
        ("image_grid_thw".to_owned(), view(Dtype::I64, vec![pictures.len(), 3], &grids)?),
    ]);
    request::in_place(&args.output, |partial| checkpoint::write_tensors(partial, tensors).map(drop))
}
