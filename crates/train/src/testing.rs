//! A model, items and stages small enough for unit tests.

use std::time::Duration;

use collective::Group;
use model::names::expected;
use model::{Config, Params, Prompt, Qwen, VisionBatch};
use serde_json::json;
use settings::{
    Data, Evaluation, Lora, Objective, Optimizer, Parallel, Reward, Rollout, Schedule, Stage, StageKind,
    Supervised, Trainable,
};
use tch::{Device, Kind, Tensor};
use vision::Grid;

use crate::{Completion, Counts, Item, Prepared, Trainer};

/// Two layers, two vision blocks, 96 tokens; 90 stands for a picture's token.
pub(crate) fn config(tied: bool) -> Config {
    let value = json!({
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}, "max_position_embeddings": 512,
        "image_token_id": 90, "video_token_id": 91,
        "vision_config": {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "in_chans": 3,
            "patch_size": 2, "window_size": 8, "out_hidden_size": 32, "fullatt_block_indexes": [1]},
    });
    Config::from_json(value.as_object().expect("an object")).expect("a good configuration")
}

pub(crate) fn model(tied: bool) -> Qwen {
    Qwen::new(config(tied), Kind::Float, Device::Cpu)
}

/// f32 weights, the same at every call.
pub(crate) fn weights(config: &Config) -> Params {
    let mut draws = Draws(7);
    let draw = |(name, shape): (String, Vec<i64>)| {
        let noise = draws.tensor(&shape);
        let fan: i64 = shape[1..].iter().product();
        let value = match (shape.len(), name.ends_with("bias")) {
            (1, true) => noise * 0.1,
            (1, false) => noise * 0.1 + 1.0,
            _ => noise * (2.0 / (fan as f64).sqrt()),
        };
        (name, value)
    };
    expected(config).into_iter().map(draw).collect()
}

/// Uniform draws that do not depend on libtorch's generator, which all tests of a process share.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Values in [−1, 1).
    pub(crate) fn tensor(&mut self, shape: &[i64]) -> Tensor {
        let count = shape.iter().product::<i64>();
        let values: Vec<f32> = (0..count).map(|_| self.word() as f32 / (1_u64 << 30) as f32 - 1.0).collect();
        Tensor::from_slice(&values).view(shape)
    }

    pub(crate) fn ids(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| (self.word() % 90) as u32).collect()
    }
}

fn pixels(grids: &[Grid], draws: &mut Draws) -> Tensor {
    let patches: usize = grids.iter().map(|grid| grid.patches()).sum();
    draws.tensor(&[patches as i64, 24])
}

/// A prompt with a picture of 16 patches (4 tokens), or without one.
pub(crate) fn prompt(seed: u64, picture: bool) -> (Prompt, Tensor) {
    let mut draws = Draws(seed);
    let mut ids = draws.ids(5);
    let grids = if picture { vec![Grid { t: 1, h: 4, w: 4 }] } else { Vec::new() };
    if picture {
        ids.extend([90; 4]);
        ids.extend(draws.ids(3));
    }
    let media: Vec<_> = grids.iter().map(|&grid| grid.into()).collect();
    let prompt = Prompt::new(ids, &media, &config(true)).expect("fits its picture");
    (prompt, pixels(&grids, &mut draws))
}

/// `lengths` completions of a prompt.
pub(crate) fn policy_item(seed: u64, picture: bool, lengths: &[usize]) -> Item {
    let (prompt, pixels) = prompt(seed, picture);
    let mut draws = Draws(seed + 1000);
    let completion = |&length: &usize| Completion {
        ids: draws.ids(length),
        advantage: draws.word() as f64 / (1_u64 << 30) as f64 - 1.0,
        old_logprobs: Vec::new(),
        rollout_logprobs: Vec::new(),
        reference_logprobs: Vec::new(),
    };
    Item::Policy { completions: lengths.iter().map(completion).collect(), prompt, pixels }
}

pub(crate) fn answer_item(seed: u64, picture: bool) -> Item {
    let (prompt, pixels) = prompt(seed, picture);
    Item::Answer { prompt, pixels, ids: Draws(seed + 2000).ids(4), weights: vec![6.0, 1.0, 1.0, 1.0] }
}

pub(crate) fn distortion_item(seed: u64) -> Item {
    let grids = vec![Grid { t: 1, h: 4, w: 6 }];
    let pixels = pixels(&grids, &mut Draws(seed));
    Item::Distortion {
        picture: VisionBatch { grids },
        pixels,
        kind: seed as u32 % 26,
        level: 3,
        quality: 2.5,
    }
}

/// The counts of a step with these items.
pub(crate) fn counts(items: &[Item]) -> Counts {
    let mut counts = Counts::default();
    for item in items {
        match item {
            Item::Policy { completions, .. } => {
                counts.step.add_sample(completions.iter().map(|c| c.ids.len() as u64));
            }
            Item::Answer { weights, .. } => counts.answer_weight += weights.iter().sum::<f64>(),
            Item::Distortion { .. } => counts.step.samples += 1,
        }
    }
    counts
}

pub(crate) fn stage(kind: StageKind) -> Stage {
    Stage {
        name: "test".to_owned(),
        steps: 10,
        kind,
        trainable: Trainable::All,
        lora: Lora::default(),
        data: Data::default(),
        rollout: Rollout::default(),
        reward: Reward::default(),
        objective: Objective::default(),
        supervised: Supervised::default(),
        optimizer: Optimizer { lr: 1e-3, schedule: Schedule::Constant, ..Optimizer::default() },
        parallel: Parallel::default(),
        evaluation: Evaluation::default(),
    }
}

pub(crate) fn trainer(stage: &Stage) -> Trainer {
    let model = model(true);
    let weights = weights(&model.config);
    Trainer::new(model, weights, stage, 1, Duration::from_secs(20)).expect("a whole model")
}

/// Prepares a step of `items` at the stage's peak rate.
pub(crate) fn prepare(trainer: &mut Trainer, items: &[Item], counts: Counts, group: &dyn Group) -> Prepared {
    trainer.prepare(items, counts, 1e-3, group, &mut || {}).expect("a good step")
}

/// The largest difference, relative to the largest of `b`.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let scale = b.abs().max().double_value(&[]);
    (a - b).abs().max().double_value(&[]) / if scale > 0.0 { scale } else { 1.0 }
}
