//! From the coordinator's samples to what the model takes: pictures decoded, cut and resized, text tokenised.

use std::path::PathBuf;
use std::sync::Arc;

use model::{Medium, Processor, Prompt, Qwen, VisionBatch, pixel_values};
use proto::v1::train_item::Target;
use proto::v1::{AnswerTarget, DistortionTarget, Piece, PolicyTarget, Sample, TrainItem};
use tch::{Device, Kind, Tensor};
use train::{Completion, Item};
use vision::{Augment, PatchSettings, Patches, Rgb, VideoSettings};

use crate::ahead::{self, ahead};
use crate::frames::{Frames, Shown, shown};
use crate::pictures::Pictures;
use crate::turn;

/// Bytes of decoded pictures that a worker keeps.
const PICTURE_ROOM: usize = 512 << 20;

/// Reads samples for one model.
pub struct Inputs {
    processor: Processor,
    patches: PatchSettings,
    augment: Augment,
    /// How videos are shown themselves, where they are.
    videos: Option<VideoSettings>,
    frames: Frames,
    pictures: Pictures,
}

/// A sample as the model takes it.
pub struct Ready {
    /// Its tokens, with a place for every merged patch.
    pub prompt: Prompt,
    /// Its pictures.
    pub pictures: Vec<Patches>,
}

/// What an update trains on, as threads prepare it: without tensors.
enum Draft {
    Policy(Ready, PolicyTarget),
    Answer(Ready, Vec<u32>, Vec<f64>),
    Distortion(Vec<Patches>, DistortionTarget),
}

impl Draft {
    fn item(self, model: &Qwen) -> Item {
        match self {
            Self::Policy(Ready { prompt, pictures }, policy) => {
                let completions = policy.completions.into_iter().map(|c| Completion {
                    ids: c.ids,
                    advantage: c.advantage,
                    old_logprobs: c.old_logprobs,
                    rollout_logprobs: c.rollout_logprobs,
                    reference_logprobs: c.ref_logprobs,
                });
                Item::Policy { pixels: pixels(&pictures, model), prompt, completions: completions.collect() }
            }
            Self::Answer(Ready { prompt, pictures }, ids, weights) => {
                Item::Answer { pixels: pixels(&pictures, model), prompt, ids, weights }
            }
            Self::Distortion(pictures, label) => Item::Distortion {
                picture: batch(&pictures),
                pixels: pixels(&pictures, model),
                kind: label.kind,
                level: label.level,
                quality: label.quality,
            },
        }
    }
}

impl Inputs {
    /// Reads as `processor` says, with a stage's own bounds and augmentation.
    #[must_use]
    pub fn new(processor: Processor, data: &settings::Data) -> Self {
        let mut inputs = Self {
            patches: processor.patches.clone(),
            augment: Augment::default(),
            videos: None,
            frames: Frames::default(),
            processor,
            pictures: Pictures::with_room(PICTURE_ROOM),
        };
        inputs.begin_stage(data);
        inputs
    }

    /// Takes over a stage's bounds and augmentation.
    pub fn begin_stage(&mut self, data: &settings::Data) {
        self.frames = Frames::of(data);
        self.pictures.forget();
        let bound = |given: Option<u32>, own: usize| given.map_or(own, |bound| bound as usize);
        let bounded = |own: &PatchSettings| PatchSettings {
            min_pixels: bound(data.min_pixels, own.min_pixels),
            max_pixels: bound(data.max_pixels, own.max_pixels),
            ..own.clone()
        };
        self.patches = bounded(&self.processor.patches);
        let own = &self.processor.videos;
        self.videos = (data.video == settings::VideoInput::Native).then(|| VideoSettings {
            frames: bounded(&own.frames),
            fps: data.fps.unwrap_or(own.fps),
            max_frames: bound(data.max_frames, own.max_frames),
            ..own.clone()
        });
        let crop = data.crop.map(|side| side as usize);
        self.augment = Augment { crop, flip: data.flip, permute: data.permute_channels };
    }

    /// The processor of the model.
    #[must_use]
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// A sample's prompt and pictures.
    ///
    /// # Errors
    /// If a picture cannot be read, or the prompt does not fit the model; the message names file or sample.
    pub fn prompt(&self, sample: &Sample) -> Result<Ready, String> {
        let (parts, media, pictures) = match self.videos.as_ref().filter(|_| sample.video) {
            Some(settings) => {
                let (cut, seconds) = self.footage(sample, settings)?;
                let medium = Medium { grid: cut.grid, seconds_per_group: Some(seconds) };
                (turn::of_footage(&sample.prompt), vec![medium], vec![cut])
            }
            None => {
                let pictures = self.pictures(sample)?;
                let parts = match sample.video {
                    true => turn::of_video(pictures.len(), &sample.prompt),
                    false => turn::of_pictures(pictures.len(), &sample.prompt),
                };
                (parts, pictures.iter().map(|p| p.grid.into()).collect(), pictures)
            }
        };
        let prompt = self
            .processor
            .prompt_of(&parts, &media, sample.add_vision_id)
            .map_err(|e| format!("sample {}: {e}", sample.id))?;
        Ok(Ready { prompt, pictures })
    }

    /// What an update trains on, in order: pictures prepared by threads, tensors made by this one. Says each that is
    /// done.
    ///
    /// # Errors
    /// If a picture cannot be read, or a target is missing or does not fit.
    pub fn items(
        &self,
        items: Vec<TrainItem>,
        model: &Qwen,
        mut done: impl FnMut(),
    ) -> Result<Vec<Item>, String> {
        ahead(
            ahead::threads(),
            items.into_iter(),
            |item| self.draft(item),
            |drafts| {
                let items = drafts.map(|draft| {
                    done();
                    Ok(draft?.item(model))
                });
                items.collect()
            },
        )
    }

    fn draft(&self, item: TrainItem) -> Result<Draft, String> {
        let sample = item.sample.ok_or("an item without a sample")?;
        match item.target.ok_or_else(|| format!("sample {}: no target", sample.id))? {
            Target::Policy(policy) => Ok(Draft::Policy(self.prompt(&sample)?, policy)),
            Target::Answer(answer) => {
                let (ids, weights) =
                    self.answer(&answer).map_err(|e| format!("sample {}: {e}", sample.id))?;
                Ok(Draft::Answer(self.prompt(&sample)?, ids, weights))
            }
            Target::Distortion(label) => Ok(Draft::Distortion(self.pictures(&sample)?, label)),
        }
    }

    /// A sample's pictures; of a video, those that are made of it.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn pictures(&self, sample: &Sample) -> Result<Vec<Patches>, String> {
        let files: Vec<PathBuf> = sample.images.iter().map(PathBuf::from).collect();
        let read: Vec<(PathBuf, Arc<Rgb>)> = match shown(&files) {
            Shown::Video(video) => {
                let made = self.pictures.read_video(&video, &self.frames).map_err(|e| e.to_string())?;
                made.into_iter().map(|picture| (video.clone(), picture)).collect()
            }
            Shown::Pictures(files) => {
                let read = files.into_iter().map(|path| {
                    let picture = self.pictures.read(&path).map_err(|e| e.to_string())?;
                    Ok((path, picture))
                });
                read.collect::<Result<_, String>>()?
            }
        };
        let cut = |(number, (path, picture)): (usize, &(PathBuf, Arc<Rgb>))| {
            let augmented = sample.augment_seed.map(|seed| {
                vision::augment((**picture).clone(), self.augment, seed.wrapping_add(number as u64))
            });
            let picture = augmented.as_ref().unwrap_or(picture);
            vision::patches(picture, &self.patches).map_err(|e| format!("{}: {e}", path.display()))
        };
        read.iter().enumerate().map(cut).collect()
    }

    /// A sample's video itself, and the seconds between its groups of frames.
    fn footage(&self, sample: &Sample, settings: &VideoSettings) -> Result<(Patches, f64), String> {
        let files: Vec<PathBuf> = sample.images.iter().map(PathBuf::from).collect();
        let Shown::Video(video) = shown(&files) else {
            return Err(format!(
                "{}: is no video, but pictures of one; expected the video itself, which the model is to be shown \
                 (data.video: native)",
                sample.images.join(", ")
            ));
        };
        let taken = self.pictures.read_frames(&video, settings).map_err(|e| e.to_string())?;
        let cut = taken.patches(settings).map_err(|e| format!("{}: {e}", video.display()))?;
        Ok((cut, taken.seconds_per_group(settings)))
    }

    /// Tokens of an answer with its end token; each takes the weight of the piece that its first byte lies in.
    fn answer(&self, answer: &AnswerTarget) -> Result<(Vec<u32>, Vec<f64>), model::ProcessorError> {
        let text: String = answer.pieces.iter().map(|piece| piece.text.as_str()).collect();
        let places = self.processor.completion_places(&text)?;
        Ok(places.into_iter().map(|(id, place)| (id, weight_at(&answer.pieces, place))).unzip())
    }
}

/// Weight of the piece that byte `place` of the joined text lies in; the last one's behind the end.
fn weight_at(pieces: &[Piece], place: usize) -> f64 {
    let mut end = 0;
    let holder = pieces.iter().find(|piece| {
        end += piece.text.len();
        place < end
    });
    holder.or(pieces.last()).map_or(1.0, |piece| piece.weight)
}

/// Pictures for the vision tower: their grids, and their patches `[patches, channels · time · patch · patch]` f32 on
/// the CPU.
pub fn tower_input(pictures: &[Patches], model: &Qwen) -> (VisionBatch, Tensor) {
    (batch(pictures), pixels(pictures, model))
}

fn batch(pictures: &[Patches]) -> VisionBatch {
    VisionBatch { grids: pictures.iter().map(|p| p.grid).collect() }
}

fn pixels(pictures: &[Patches], model: &Qwen) -> Tensor {
    let values = model.config.vision.patch_values();
    pixel_values(&pictures.iter().collect::<Vec<_>>(), values, Kind::Float, Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::weight_at;
    use proto::v1::Piece;

    #[test]
    fn a_token_takes_the_weight_of_the_piece_that_it_begins_in() {
        let piece = |text: &str, weight| Piece { text: text.into(), weight };
        let pieces = [piece("<think>", 1.0), piece("Blur", 6.0), piece(" it is", 1.0), piece("", 9.0)];
        let weights = [0, 6, 7, 10, 11, 16, 17].map(|place| weight_at(&pieces, place));
        assert_eq!(weights, [1.0, 1.0, 6.0, 6.0, 1.0, 1.0, 9.0]);
        assert_eq!(weight_at(&[], 0), 1.0);
    }
}
