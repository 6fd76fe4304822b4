//! `worker patches`: pictures as the model takes them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{Config, Processor};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use vision::{Grid, Patches};

use super::request;
use crate::ahead::ahead;
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
    /// Threads that decode, resize and cut; the machine's cores when absent.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// JSON: {"images", "threads", "seconds"} from the first file's opening until all values lie in one array.
    #[arg(long)]
    timing: Option<PathBuf>,
}

#[derive(Serialize)]
struct Timing {
    images: usize,
    threads: usize,
    seconds: f64,
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
    let threads =
        args.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let cut = |path: &PathBuf| request::patches_of(path, &processor.patches);
    let start = Instant::now();
    let (values, grids) = ahead(threads, args.images.iter(), cut, |cut| gather(cut, args.images.len()))?;
    let seconds = start.elapsed().as_secs_f64();
    write(&args.output, &values, &grids, config.vision.patch_values() as usize)?;
    match &args.timing {
        Some(path) => request::write_lines(path, &[Timing { images: grids.len(), threads, seconds }]),
        None => Ok(()),
    }
}

/// All pictures' values in one array, and their grids.
fn gather(
    cut: &mut dyn Iterator<Item = Result<Patches, String>>,
    images: usize,
) -> Result<(Vec<f32>, Vec<Grid>), Failure> {
    let (mut values, mut grids) = (Vec::new(), Vec::with_capacity(images));
    for picture in cut {
        let picture = picture.map_err(Failure::input)?;
        if grids.is_empty() {
            values.reserve(picture.values.len() * images);
        }
        values.extend_from_slice(&picture.values);
        grids.push(picture.grid);
    }
    Ok((values, grids))
}

fn write(path: &Path, values: &[f32], grids: &[Grid], width: usize) -> Result<(), Failure> {
    let mut bytes = vec![0; values.len() * 4];
    for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    let places: Vec<u8> =
        grids.iter().flat_map(|g| [g.t, g.h, g.w]).flat_map(|n| (n as i64).to_le_bytes()).collect();
    let view = |dtype, shape: Vec<usize>, bytes| TensorView::new(dtype, shape, bytes).map_err(Failure::other);
    let tensors = BTreeMap::from([
        ("pixel_values".to_owned(), view(Dtype::F32, vec![values.len() / width, width], &bytes)?),
        ("image_grid_thw".to_owned(), view(Dtype::I64, vec![grids.len(), 3], &places)?),
    ]);
    request::in_place(path, |partial| checkpoint::write_tensors(partial, tensors).map(drop))
}
