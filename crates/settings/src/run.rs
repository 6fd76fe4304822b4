//! The resolved recipe: what the rest of the program sees. Every field is checked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sections::{
    Checkpoint, Data, Evaluation, Fault, Lora, Model, Objective, Optimizer, Parallel, Recovery, Reward,
    Rollout, Supervised, Trainable,
};

/// A checked recipe with its stages in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name, seed and output folder.
    pub run: Identity,
    /// Where the first stage's weights come from, and how they compute.
    pub model: Model,
    /// What survives which fault.
    pub recovery: Recovery,
    /// How often weights go to disk, and how many stay.
    pub checkpoint: Checkpoint,
    /// The stages, each with every setting that it may change, already merged.
    pub stages: Vec<Stage>,
    /// Planned faults; empty without `--allow-faults`.
    pub faults: Vec<Fault>,
}

/// One stage: base settings with the stage's own laid over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique within the run; names its checkpoints.
    pub name: String,
    /// Optimizer steps; 0 until the data are read where `data.epochs` says how many.
    pub steps: u64,
    /// What a step does.
    pub kind: StageKind,
    /// Which parameters train.
    pub trainable: Trainable,
    /// The adapters of `trainable: lora`.
    pub lora: Lora,
    /// Data sets, pixels, prompts.
    pub data: Data,
    /// How responses are drawn.
    pub rollout: Rollout,
    /// How responses are scored.
    pub reward: Reward,
    /// The policy loss.
    pub objective: Objective,
    /// The weights of the supervised losses (`kind: vision` and `kind: sft`).
    pub supervised: Supervised,
    /// AdamW and its schedule.
    pub optimizer: Optimizer,
    /// Batch and sharding.
    pub parallel: Parallel,
    /// Evaluation within the stage.
    pub evaluation: Evaluation,
}

/// What a stage's steps do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// The vision tower with a throw-away head for distortion type, level and quality.
    Vision,
    /// Cross-entropy on answers made from labels.
    Sft,
    /// Rollout, reward, policy update.
    Prpo,
}

/// `run:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Shown everywhere; part of the run id.
    pub name: String,
    /// Every draw derives from it.
    #[serde(default)]
    pub seed: u64,
    /// The run folder: journal, logs, checkpoints, report.
    pub output: PathBuf,
}
