//! From the coordinator's samples to what the model takes: pictures decoded, cut and resized, text tokenised.

use std::path::Path;

use model::{Processor, Prompt, Qwen, VisionBatch, pixel_values};
use proto::v1::train_item::Target;
use proto::v1::{AnswerTarget, Piece, Sample, TrainItem};
use tch::{Device, Kind, Tensor};
use train::{Completion, Item};
use vision::{Augment, Grid, PatchSettings, Patches};

use crate::pictures::Pictures;

/// Bytes of decoded pictures that a worker keeps.
const PICTURE_ROOM: usize = 512 << 20;

/// Reads samples for one model.
pub struct Inputs {
    processor: Processor,
    patches: PatchSettings,
    augment: Augment,
    pictures: Pictures,
}

/// A sample as the model takes it.
pub struct Ready {
    /// Its tokens, with a place for every merged patch.
    pub prompt: Prompt,
    /// Its pictures.
    pub pictures: Vec<Patches>,
}

impl Ready {
    /// Patches of all pictures, `[patches, channels · time · patch · patch]` f32, on the CPU.
    fn pixels(&self, model: &Qwen) -> Tensor {
        pixels(&self.pictures, model)
    }
}

impl Inputs {
    /// Reads as `processor` says, with a stage's own bounds and augmentation.
    #[must_use]
    pub fn new(processor: Processor, data: &settings::Data) -> Self {
        let mut inputs = Self {
            patches: processor.patches.clone(),
            augment: Augment::default(),
            processor,
            pictures: Pictures::with_room(PICTURE_ROOM),
        };
        inputs.begin_stage(data);
        inputs
    }

    /// Takes over a stage's bounds and augmentation.
    pub fn begin_stage(&mut self, data: &settings::Data) {
        let own = &self.processor.patches;
        let bound = |given: Option<u32>, own: usize| given.map_or(own, |pixels| pixels as usize);
        self.patches = PatchSettings {
            min_pixels: bound(data.min_pixels, own.min_pixels),
            max_pixels: bound(data.max_pixels, own.max_pixels),
            ..own.clone()
        };
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
    pub fn prompt(&mut self, sample: &Sample) -> Result<Ready, String> {
        let pictures = self.patches(sample)?;
        let grids: Vec<Grid> = pictures.iter().map(|p| p.grid).collect();
        let prompt = self
            .processor
            .prompt(&grids, &sample.prompt)
            .map_err(|e| format!("sample {}: {e}", sample.id))?;
        Ok(Ready { prompt, pictures })
    }

    /// What an update trains on, tokenised.
    ///
    /// # Errors
    /// If a picture cannot be read, or a target is missing or does not fit.
    pub fn item(&mut self, item: TrainItem, model: &Qwen) -> Result<Item, String> {
        let sample = item.sample.ok_or("an item without a sample")?;
        match item.target.ok_or_else(|| format!("sample {}: no target", sample.id))? {
            Target::Policy(policy) => {
                let ready = self.prompt(&sample)?;
                let completions = policy.completions.into_iter().map(|c| Completion {
                    ids: c.ids,
                    advantage: c.advantage,
                    old_logprobs: c.old_logprobs,
                });
                Ok(Item::Policy {
                    pixels: ready.pixels(model),
                    prompt: ready.prompt,
                    completions: completions.collect(),
                })
            }
            Target::Answer(answer) => {
                let ready = self.prompt(&sample)?;
                let (ids, weights) =
                    self.answer(&answer).map_err(|e| format!("sample {}: {e}", sample.id))?;
                Ok(Item::Answer { pixels: ready.pixels(model), prompt: ready.prompt, ids, weights })
            }
            Target::Distortion(label) => {
                let pictures = self.patches(&sample)?;
                let picture = VisionBatch { grids: pictures.iter().map(|p| p.grid).collect() };
                let pixels = pixels(&pictures, model);
                let (kind, level, quality) = (label.kind, label.level, label.quality);
                Ok(Item::Distortion { picture, pixels, kind, level, quality })
            }
        }
    }

    /// A sample's pictures for the vision tower alone.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn vision(&mut self, sample: &Sample, model: &Qwen) -> Result<(VisionBatch, Tensor), String> {
        let pictures = self.patches(sample)?;
        Ok((VisionBatch { grids: pictures.iter().map(|p| p.grid).collect() }, pixels(&pictures, model)))
    }

    fn patches(&mut self, sample: &Sample) -> Result<Vec<Patches>, String> {
        let mut patches = Vec::with_capacity(sample.images.len());
        for (number, path) in sample.images.iter().enumerate() {
            let picture = self.pictures.read(Path::new(path)).map_err(|e| e.to_string())?;
            let cut = sample.augment_seed.map(|seed| {
                vision::augment((*picture).clone(), self.augment, seed.wrapping_add(number as u64))
            });
            let cut = cut.as_ref().unwrap_or(&picture);
            patches.push(vision::patches(cut, &self.patches).map_err(|e| format!("{path}: {e}"))?);
        }
        Ok(patches)
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
