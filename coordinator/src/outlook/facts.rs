//! What is known of model and data: from their files, or from what the recipe declares instead.

use std::path::Path;

use data::{Media, Sample, is_video_name, ready_made};
use serde_json::Value;
use settings::{DataSource, Declared, ModelShape, Run, Stage, VideoInput};
use vision::{VideoOptions, decode, smart_resize, video_pictures};

use super::native;
use crate::failure::Failure;

/// Pictures of a data set that are opened to learn their sizes.
const LOOKED_AT: usize = 8;

/// The published processor's bounds, pixels.
const BOUNDS: [u64; 2] = [3136, 12_845_056];

/// What a plan rests on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) shape: ModelShape,
    /// What stands in for the model's folder, where it is not there.
    pub(crate) stand_in: Option<String>,
    /// The processor's own bounds on a picture's area, pixels.
    bounds: [u64; 2],
}

/// A stage's data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StageFacts {
    /// Mean tokens of a training sample's pictures.
    pub(crate) picture_tokens: f64,
    /// Mean bytes of a training sample's question.
    pub(crate) question_bytes: f64,
    /// Sources whose counts are declared, in any list.
    pub(crate) declared: Vec<String>,
}

/// Whether a source's files are not there, and what stands in for them.
pub(crate) fn stand_in(source: &DataSource) -> Option<Declared> {
    let there = source.pairs().iter().all(|(manifest, media)| manifest.is_file() && media.is_dir());
    source.declared.filter(|_| !there)
}

impl Facts {
    /// Of a recipe's model.
    ///
    /// # Errors
    /// If neither its config.json nor a declared shape is there, or it cannot be read.
    pub(crate) fn of(run: &Run) -> Result<Self, Failure> {
        let path = run.model.path.join("config.json");
        let json = |path: &Path| -> Option<Value> { serde_json::from_slice(&std::fs::read(path).ok()?).ok() };
        match (path.is_file(), run.model.shape) {
            (false, Some(published)) => {
                let name = serde_json::to_value(published).unwrap_or_default();
                let said = format!(
                    "the shape of {} that comes with the program: {} is not there",
                    name.as_str().unwrap_or_default(),
                    run.model.path.display()
                );
                Ok(Self { shape: ModelShape::published(published), stand_in: Some(said), bounds: BOUNDS })
            }
            (false, None) => Err(Failure::input(format!(
                "model.path: {} does not exist; expected a model folder in Hugging Face layout, or model.shape for a \
                 dry run without it",
                path.display()
            ))),
            (true, _) => {
                let wrong = |what: String| Failure::input(format!("{}: {what}", path.display()));
                let config =
                    json(&path).ok_or_else(|| wrong("is no JSON; expected a model's config".into()))?;
                let shape = ModelShape::of_config(&config).map_err(wrong)?;
                let processor = json(&run.model.path.join("preprocessor_config.json")).unwrap_or_default();
                let bound = |key: &str, size: &str, own: u64| {
                    processor[key].as_u64().or_else(|| processor["size"][size].as_u64()).unwrap_or(own)
                };
                let bounds = [
                    bound("min_pixels", "shortest_edge", BOUNDS[0]),
                    bound("max_pixels", "longest_edge", BOUNDS[1]),
                ];
                Ok(Self { shape, stand_in: None, bounds })
            }
        }
    }

    /// Of a stage's data; `train` are its training samples, placeholders where they are declared.
    pub(crate) fn stage(&self, stage: &Stage, train: &[Sample]) -> StageFacts {
        let (mut tokens, mut bytes) = (0.0, 0.0);
        for source in &stage.data.train {
            let own =
                |s: &&Sample| s.dataset == source.name || s.dataset.starts_with(&format!("{}/", source.name));
            let samples: Vec<&Sample> = train.iter().filter(own).collect();
            let each = match stand_in(source) {
                Some(declared) => self.tokens_of(&shown(declared, stage), stage),
                None => self.looked_at(&samples, stage),
            };
            tokens += each * samples.len() as f64;
        }
        for sample in train {
            let longest = stage.data.prompts.iter().map(String::len).max();
            bytes += longest.unwrap_or(data::evaluation_prompt(sample, stage.data.video).len()) as f64;
        }
        let lists = [&stage.data.train, &stage.data.validation, &stage.data.test];
        let mut declared: Vec<String> =
            lists.into_iter().flatten().filter(|s| stand_in(s).is_some()).map(|s| s.name.clone()).collect();
        declared.sort();
        declared.dedup();
        let count = train.len().max(1) as f64;
        StageFacts { picture_tokens: tokens / count, question_bytes: bytes / count, declared }
    }

    /// Mean over some of the samples, evenly spread.
    fn looked_at(&self, samples: &[&Sample], stage: &Stage) -> f64 {
        let most = match samples.first() {
            Some(sample) if sample.media == Media::Video => 1,
            _ => LOOKED_AT,
        };
        let every = samples.len().div_ceil(most).max(1);
        let looked: Vec<f64> = samples
            .iter()
            .step_by(every)
            .map(|sample| self.tokens_of(&sizes(sample, stage), stage))
            .collect();
        looked.iter().sum::<f64>() / looked.len().max(1) as f64
    }

    /// Tokens that pictures of these sizes become.
    fn tokens_of(&self, sizes: &[(usize, usize)], stage: &Stage) -> f64 {
        let factor = self.shape.vision.patch * self.shape.vision.merge;
        let bound = |given: Option<u32>, own: u64| given.map_or(own, u64::from) as usize;
        let least = bound(stage.data.min_pixels, self.bounds[0]);
        let most = bound(stage.data.max_pixels, self.bounds[1]);
        let tokens = |&(width, height): &(usize, usize)| {
            let seen = smart_resize(height, width, factor as usize, least, most).unwrap_or((height, width));
            (seen.0 * seen.1) as f64 / (factor * factor) as f64
        };
        sizes.iter().map(tokens).sum()
    }
}

/// The pictures of a declared sample.
fn shown(declared: Declared, stage: &Stage) -> Vec<(usize, usize)> {
    let (width, height) = (declared.width as usize, declared.height as usize);
    if !declared.video {
        return vec![cut((width, height), stage)];
    }
    if stage.data.video == VideoInput::Native {
        return native::at_most((width, height), &stage.data);
    }
    let fit = |size| within(size, stage.data.longest_side);
    vec![fit((4 * width, 4 * height)), fit((width, height)), fit((width, height)), fit((width, height))]
}

/// A training picture after a crop.
fn cut((width, height): (usize, usize), stage: &Stage) -> (usize, usize) {
    let side = stage.data.crop.map_or(usize::MAX, |side| side as usize);
    (width.min(side), height.min(side))
}

fn within((width, height): (usize, usize), longest: Option<u32>) -> (usize, usize) {
    let longest = longest.map_or(usize::MAX, |side| side as usize);
    let side = width.max(height);
    if side <= longest {
        return (width, height);
    }
    let scaled = |length: usize| (length * longest / side).max(1);
    (scaled(width), scaled(height))
}

/// The sizes of a sample's pictures; none where they cannot be read, which the run itself will say.
fn sizes(sample: &Sample, stage: &Stage) -> Vec<(usize, usize)> {
    let of_file = |path: &Path| decode(path).ok().map(|p| (p.width(), p.height()));
    let video = sample.images.first().filter(|path| is_video_name(path));
    match video {
        Some(path) if stage.data.video == VideoInput::Native => native::groups(path, &stage.data),
        Some(path) if path.is_file() => {
            let options = VideoOptions {
                longest_side: stage.data.longest_side.map(|side| side as usize),
                ..VideoOptions::default()
            };
            let made = video_pictures(path, &options).map(|made| made.pictures).unwrap_or_default();
            made.iter().map(|p| (p.width(), p.height())).collect()
        }
        Some(path) => ready_made(path).unwrap_or_default().iter().filter_map(|p| of_file(p)).collect(),
        None if sample.media == Media::Video => sample.images.iter().filter_map(|p| of_file(p)).collect(),
        None => sample.images.iter().filter_map(|p| of_file(p)).map(|size| cut(size, stage)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sets: &[&str]) -> Run {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        settings::default_run(&sets).expect("settings")
    }

    #[test]
    fn a_declared_picture_has_the_tokens_of_the_processors_size() {
        let run = run(&["model.path=none", "model.shape=qwen2.5-vl-7b"]);
        let facts = Facts::of(&run).expect("a shape");
        assert!(facts.stand_in.as_deref().is_some_and(|said| said.contains("none is not there")));
        // 512 × 384 is seen as 504 × 392: 18 × 14 tokens.
        let declared = Declared { samples: 1, width: 512, height: 384, video: false };
        assert_eq!(facts.tokens_of(&shown(declared, &run.stages[0]), &run.stages[0]), 252.0);
        let video = Declared { video: true, width: 640, height: 360, ..declared };
        let bounded = self::run(&["data.longest_side=640"]);
        assert_eq!(
            shown(video, &bounded.stages[0]),
            [(640, 360); 4],
            "a mosaic keeps the frames' aspect ratio"
        );
    }

    #[test]
    fn a_model_that_is_not_there_needs_a_shape() {
        let said = Facts::of(&run(&["model.path=none"])).expect_err("nothing").message;
        assert!(said.contains("none/config.json does not exist") && said.contains("model.shape"), "{said}");
    }
}
