//! What the journal keeps.

use std::collections::BTreeMap;

use super::{CheckpointName, EvaluationSet, Moment, Rank};

/// What the journal keeps, in the order that it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A world is about to form.
    Epoch(EpochRecord),
    /// A stage began.
    Stage(StageRecord),
    /// A step is committed: from here on it is never discarded.
    Step(StepRecord),
    /// Held-out sets were answered.
    Evaluation(EvaluationRecord),
    /// A checkpoint is whole on disk.
    Checkpoint(CheckpointRecord),
    /// The run ended, and how.
    Ended {
        /// `finished`, `interrupted` or the failure's reason.
        outcome: String,
    },
}

/// A world: who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// Its number; 1 is the first.
    pub epoch: u64,
    /// Rank to incarnation.
    pub members: BTreeMap<Rank, u64>,
}

/// A stage's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRecord {
    /// Index of the stage.
    pub stage: usize,
    /// Its name.
    pub name: String,
    /// Of all master weights.
    pub digest: String,
}

/// A committed step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Counted over all stages; 1 is the first.
    pub step: u64,
    /// Index of the stage.
    pub stage: usize,
    /// Within the stage; 1 is the first.
    pub number: u64,
    /// Which try at it.
    pub attempt: u32,
    /// Committed as skipped: nothing is applied.
    pub skip: bool,
    /// The learning rate.
    pub lr: f64,
    /// The ranks that prepared it, all of the epoch.
    pub members: Vec<Rank>,
    /// Where the data plan stands after it, as the plan writes it.
    pub cursor: String,
    /// Ids of the samples that it trained on.
    pub samples: Vec<String>,
    /// Name to value: loss, grad_norm, tokens, reward, ….
    pub metrics: BTreeMap<String, f64>,
}

/// An evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationRecord {
    /// The newest committed step.
    pub step: u64,
    /// Index of the stage.
    pub stage: usize,
    /// Which sets.
    pub set: EvaluationSet,
    /// When in the stage.
    pub moment: Moment,
    /// Name to value: srcc, plcc, ….
    pub metrics: BTreeMap<String, f64>,
}

/// A published checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRecord {
    /// Its folder's name.
    pub name: CheckpointName,
    /// The newest committed step that it holds.
    pub step: u64,
}
