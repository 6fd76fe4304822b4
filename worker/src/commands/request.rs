//! Request files and model directories, as the tools on one model take them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;

use checkpoint::weights::WeightFiles;
pub(super) use judge::Dtype;
use model::{Config, Medium, Params, Processor, Qwen, pixel_values};
use safetensors::tensor::{Dtype as Element, TensorView};
use serde::Serialize;
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};
use vision::{Patches, VideoSettings};

use super::content::{self, Part};
use crate::failure::Failure;
use crate::inputs::Ready;

/// One line of a request file.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: String,
    /// The user's turn.
    turn: Vec<Part>,
    /// Whether its pictures and videos are numbered.
    add_vision_id: bool,
    /// What is scored; not used by generation.
    pub(super) completion: Option<String>,
    /// File and line.
    place: String,
}

/// Reads a request file.
pub(super) fn read(path: &Path) -> Result<Vec<Request>, Failure> {
    read_lines(path, Request::of)
}

/// Reads JSON lines, each an object that `parse` takes with its place; an empty line is skipped.
pub(super) fn read_lines<T>(
    path: &Path,
    parse: impl Fn(&Map<String, Value>, &str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    let text = fs::read_to_string(path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let place = format!("{}:{}", path.display(), number + 1);
            let fields = serde_json::from_str(line)
                .map_err(|e| format!("expected {{\"id\", \"images\", \"prompt\" or \"content\", …}}: {e}"));
            fields
                .and_then(|fields| parse(&fields, &place))
                .map_err(|e| Failure::input(format!("{place}: {e}")))
        })
        .collect()
}

impl Request {
    /// A line's request; other fields are left to others.
    pub(super) fn of(fields: &Map<String, Value>, place: &str) -> Result<Self, String> {
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("{name}: expected a string, got {other}")),
        };
        Ok(Self {
            id: text("id")?.ok_or("id: is missing, expected a string")?,
            turn: content::turn(fields)?,
            add_vision_id: match fields.get("add_vision_id") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(flag)) => *flag,
                Some(other) => return Err(format!("add_vision_id: expected true or false, got {other}")),
            },
            completion: text("completion")?,
            place: place.to_owned(),
        })
    }

    /// Whether both ask the same.
    pub(super) fn same_turn(&self, other: &Self) -> bool {
        (&self.turn, self.add_vision_id) == (&other.turn, other.add_vision_id)
    }

    /// What is wrong with it, with where it stands.
    pub(super) fn wrong(&self, message: impl Display) -> Failure {
        Failure::input(format!("{}: request {}: {message}", self.place, self.id))
    }

    /// Its prompt, and its pictures and videos.
    pub(super) fn prepare(&self, processor: &Processor) -> Result<Ready, Failure> {
        let (mut parts, mut media, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        for part in &self.turn {
            let (part, medium) = match part {
                Part::Text(text) => (model::Part::Text { text: text.clone() }, None),
                Part::Image(path) => {
                    let cut = patches_of(path, &processor.patches).map_err(|e| self.wrong(e))?;
                    (model::Part::Image, Some((cut, None)))
                }
                Part::Video { frames, fps } => {
                    let cut = vision::video(frames, &processor.videos).map_err(|e| self.wrong(e))?;
                    let seconds = processor.videos.frames.temporal as f64 / fps;
                    (model::Part::Video, Some((cut, Some(seconds))))
                }
                Part::Clip { path, fps } => {
                    let own = &processor.videos;
                    let settings = VideoSettings { fps: fps.unwrap_or(own.fps), ..own.clone() };
                    let taken = vision::video_frames(path, &settings, 1).map_err(|e| self.wrong(e))?;
                    let cut = taken.patches(&settings).map_err(|e| self.wrong(e))?;
                    (model::Part::Video, Some((cut, Some(taken.seconds_per_group(&settings)))))
                }
            };
            parts.push(part);
            if let Some((cut, seconds_per_group)) = medium {
                media.push(Medium { grid: cut.grid, seconds_per_group });
                pictures.push(cut);
            }
        }
        let prompt = processor.prompt_of(&parts, &media, self.add_vision_id).map_err(|e| self.wrong(e))?;
        Ok(Ready { prompt, pictures })
    }
}

/// What the tools compute in.
pub(super) fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
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
        let at = |e: &dyn Display| Failure::input(format!("{}: {e}", folder.display()));
        let config = Config::read(folder).map_err(|e| at(&e))?;
        let processor = Processor::read(folder, &config).map_err(Failure::input)?;
        let files = WeightFiles::open(folder).map_err(Failure::input)?;
        let params = Params::load(&config, &files, kind, device).map_err(|e| at(&e))?;
        Ok(Self { qwen: Qwen::new(config, kind, device), params, processor })
    }
}

/// Pixel values of pictures as the model takes them.
pub(super) fn pixels(pictures: &[Patches], qwen: &Qwen) -> Tensor {
    let pictures: Vec<&Patches> = pictures.iter().collect();
    pixel_values(&pictures, qwen.config.vision.patch_values(), qwen.kind, qwen.device)
}

/// A picture's file as patches.
pub(super) fn patches_of(path: &Path, settings: &vision::PatchSettings) -> Result<Patches, String> {
    let picture = vision::decode(path).map_err(|e| e.to_string())?;
    vision::patches(&picture, settings).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes gradients as f32 by name.
pub(super) fn write_gradients(
    path: &Path,
    gradients: impl Iterator<Item = (String, Tensor)>,
) -> Result<(), Failure> {
    let mut bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, gradient) in gradients {
        let gradient = gradient.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut data = vec![0; gradient.numel() * 4];
        gradient.f_copy_data_u8(&mut data, gradient.numel()).map_err(Failure::other)?;
        bytes.insert(name, (gradient.size().iter().map(|&n| n as usize).collect(), data));
    }
    let views = bytes
        .iter()
        .map(|(name, (shape, data))| {
            let view = TensorView::new(Element::F32, shape.clone(), data).map_err(Failure::other)?;
            Ok((name.clone(), view))
        })
        .collect::<Result<BTreeMap<_, _>, Failure>>()?;
    in_place(path, |partial| checkpoint::write_tensors(partial, views).map(drop))
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

/// As [`judge::in_place`].
pub(super) fn in_place<E: Display>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), Failure> {
    Ok(judge::in_place(path, write)?)
}
