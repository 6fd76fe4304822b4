//! Request files and model directories, as the tools on one model take them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use checkpoint::weights::WeightFiles;
use model::{Config, Params, Processor, Prompt, Qwen, pixel_values};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use vision::{Grid, Patches};

use crate::failure::Failure;

/// One line of a request file: a user's turn, its images first, then its text.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Request {
    pub(super) id: String,
    #[serde(default)]
    pub(super) images: Vec<PathBuf>,
    pub(super) prompt: String,
    /// What is scored; not used by generation.
    #[serde(default)]
    pub(super) completion: Option<String>,
}

/// Reads JSON lines; an empty line is skipped.
pub(super) fn read(path: &Path) -> Result<Vec<Request>, Failure> {
    let text = fs::read_to_string(path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|e| {
                let place = format!("{}:{}", path.display(), number + 1);
                Failure::input(format!("{place}: expected {{\"id\", \"images\", \"prompt\", …}}: {e}"))
            })
        })
        .collect()
}

/// How the tools compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Dtype {
    /// f32 throughout.
    Float32,
    /// bf16 weights and activations.
    Bfloat16,
}

impl Dtype {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }
}

/// `cpu`, `cuda` or `cuda:N`.
pub(super) fn device(name: &str) -> Result<Device, Failure> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    match index {
        Some(index) if index < tch::Cuda::device_count() as usize => Ok(Device::Cuda(index)),
        Some(_) => Err(Failure::input(format!(
            "device {name}: libtorch sees {} CUDA devices",
            tch::Cuda::device_count()
        ))),
        None => Err(Failure::input(format!("device \"{name}\": expected cpu, cuda or cuda:N"))),
    }
}

/// A model directory, loaded.
pub(super) struct Loaded {
    pub(super) qwen: Qwen,
    pub(super) params: Params,
    pub(super) processor: Processor,
}

impl Loaded {
    pub(super) fn open(folder: &Path, kind: Kind, device: Device) -> Result<Self, Failure> {
        let at = |e: &dyn std::fmt::Display| Failure::input(format!("{}: {e}", folder.display()));
        let config = Config::read(folder).map_err(|e| at(&e))?;
        let processor = Processor::read(folder, &config).map_err(Failure::input)?;
        let files = WeightFiles::open(folder).map_err(Failure::input)?;
        let params = Params::load(&config, &files, kind, device).map_err(|e| at(&e))?;
        Ok(Self { qwen: Qwen::new(config, kind, device), params, processor })
    }

    /// A request's prompt and pictures.
    pub(super) fn prepare(&self, request: &Request) -> Result<(Prompt, Vec<Patches>), Failure> {
        let pictures: Vec<Patches> = request
            .images
            .iter()
            .map(|path| patches_of(path, &self.processor.patches))
            .collect::<Result<_, _>>()?;
        let grids: Vec<Grid> = pictures.iter().map(|p| p.grid).collect();
        let prompt = self
            .processor
            .prompt(&grids, &request.prompt)
            .map_err(|e| Failure::input(format!("request {}: {e}", request.id)))?;
        Ok((prompt, pictures))
    }

    /// Pixel values of pictures as the model takes them.
    pub(super) fn pixels(&self, pictures: &[Patches]) -> Tensor {
        let pictures: Vec<&Patches> = pictures.iter().collect();
        pixel_values(&pictures, self.qwen.config.vision.patch_values(), self.qwen.kind, self.qwen.device)
    }
}

/// A picture's file as patches.
pub(super) fn patches_of(path: &Path, settings: &vision::PatchSettings) -> Result<Patches, Failure> {
    let picture = vision::decode(path).map_err(Failure::input)?;
    vision::patches(&picture, settings).map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

/// Writes JSON lines beside `path` and renames them into place: no half-written output.
pub(super) fn write_lines<T: Serialize>(path: &Path, lines: &[T]) -> Result<(), Failure> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(Failure::other)?;
        text.push(b'\n');
    }
    in_place(path, |partial| fs::File::create(partial)?.write_all(&text))
}

/// Lets `write` fill a file beside `path`, then renames it into place; a pipe or a device is written to as it is.
pub(super) fn in_place<E: std::fmt::Display>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), Failure> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |e: &dyn std::fmt::Display| {
        let _ = fs::remove_file(&partial);
        Failure::other(format!("{}: {e}", path.display()))
    };
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return write(path).map_err(|e| failed(&e));
    }
    write(&partial).map_err(|e| failed(&e))?;
    fs::rename(&partial, path).map_err(|e| failed(&e))
}
