//! `worker patches`: pictures as the model takes them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{Config, Processor};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use vision::Patches;

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
    /// JSON: {"images", "threads", "seconds"} from the first file's opening until every picture's values lie in
    /// memory, as the model takes them; of a second time, when files, code and memory are warm as in a run.
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
    let prepare = || -> Result<Vec<Patches>, Failure> {
        ahead(threads, args.images.iter(), cut, |cut| cut.collect::<Result<_, _>>()).map_err(Failure::input)
    };
    if args.timing.is_some() {
        prepare()?;
    }
    let start = Instant::now();
    let pictures = prepare()?;
    let seconds = start.elapsed().as_secs_f64();
    write(&args.output, &pictures, config.vision.patch_values() as usize)?;
    match &args.timing {
        Some(path) => request::write_lines(path, &[Timing { images: pictures.len(), threads, seconds }]),
        None => Ok(()),
    }
}

fn write(path: &Path, pictures: &[Patches], width: usize) -> Result<(), Failure> {
    let count = pictures.iter().map(|p| p.values.len()).sum::<usize>();
    let mut values = vec![0; count * 4];
    let all = pictures.iter().flat_map(|p| &p.values);
    for (bytes, value) in values.chunks_exact_mut(4).zip(all) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    let grids = pictures.iter().flat_map(|p| [p.grid.t, p.grid.h, p.grid.w]);
    let grids: Vec<u8> = grids.flat_map(|n| (n as i64).to_le_bytes()).collect();
    let view = |dtype, shape: Vec<usize>, bytes| TensorView::new(dtype, shape, bytes).map_err(Failure::other);
    let tensors = BTreeMap::from([
        ("pixel_values".to_owned(), view(Dtype::F32, vec![count / width, width], &values)?),
        ("image_grid_thw".to_owned(), view(Dtype::I64, vec![pictures.len(), 3], &grids)?),
    ]);
    request::in_place(path, |partial| checkpoint::write_tensors(partial, tensors).map(drop))
}
