//! What the journal keeps, and what the engine knows by it: a run that is taken up again reads its records in order.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CheckpointName, EvaluationSet, Moment, Rank};

/// What the journal keeps, in the order that it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A world is about to form.
    Epoch(EpochRecord),
    /// A stage began.
    Stage(StageRecord),
    /// A step is committed: from here on it is never discarded.
    Step(StepRecord),
    /// A step was begun and dropped; it is repeated.
    Discarded(DiscardRecord),
    /// Workers were lost over samples of a step, or samples of it are cleared.
    Suspected(SuspectRecord),
    /// A sample on which workers die was found: it is left out from here on.
    Quarantined(QuarantineRecord),
    /// State was given to workers that lacked it; commits after `to` no longer count.
    Restored(RestoredRecord),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its number; 1 is the first.
    pub epoch: u64,
    /// Rank to incarnation.
    pub members: BTreeMap<Rank, u64>,
    /// Rank to host, as the worker names it; empty in what older coordinators wrote.
    #[serde(default)]
    pub hosts: BTreeMap<Rank, String>,
}

/// A stage's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Index of the stage.
    pub stage: usize,
    /// Its name.
    pub name: String,
    /// Of all master weights.
    pub digest: String,
}

/// A committed step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    #[serde(skip)]
    pub samples: Vec<String>,
    /// Name to value: loss, grad_norm, tokens, reward, ….
    #[serde(skip)]
    pub metrics: BTreeMap<String, f64>,
}

/// A step that was dropped before its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardRecord {
    /// Counted over all stages.
    pub step: u64,
    /// Which try at it.
    pub attempt: u32,
    /// Who was lost, and how.
    pub reason: String,
}

/// Samples of an uncommitted step of which one may be what workers die of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectRecord {
    /// Counted over all stages.
    pub step: u64,
    /// Two workers were lost over them: the step is tried in parts.
    pub searching: bool,
    /// A worker was lost over the last of them alone.
    pub alone: bool,
    /// Ids of those that may be it; none: no sample is to blame.
    pub samples: Vec<String>,
}

/// A sample on which workers die.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// The step that it was found in, counted over all stages.
    pub step: u64,
    /// Its id.
    pub sample: String,
    /// The last loss over it.
    pub reason: String,
}

/// Where restored state came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A member that held it.
    Member(Rank),
    /// The memory of other ranks: each rank that was lost, and who mirrors what it owns.
    Mirrors(BTreeMap<Rank, Rank>),
    /// A checkpoint.
    Checkpoint(CheckpointName),
    /// Nothing: the run began again.
    Start,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(rank) => write!(f, "rank {rank}"),
            Self::Mirrors(mirrors) => {
                let of =
                    |(lost, gives): (&Rank, &Rank)| format!("of rank {lost} in the memory of rank {gives}");
                write!(f, "the mirror {}", mirrors.iter().map(of).collect::<Vec<_>>().join(" and "))
            }
            Self::Checkpoint(name) => write!(f, "checkpoint {name}"),
            Self::Start => f.write_str("the run's start"),
        }
    }
}

/// State given to workers that lacked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredRecord {
    /// The newest committed step before.
    pub from: u64,
    /// The newest that still counts: the steps between are repeated.
    pub to: u64,
    /// Where it came from.
    pub source: Source,
    /// Bytes that ranks sent each other for it.
    #[serde(default)]
    pub sent: u64,
}

/// An evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The newest committed step.
    pub step: u64,
    /// Index of the stage.
    pub stage: usize,
    /// Steps of the stage done.
    pub number: u64,
    /// Which sets.
    pub set: EvaluationSet,
    /// When in the stage.
    pub moment: Moment,
    /// The stage has no further step (`evaluation.early_stop`).
    pub stop: bool,
    /// By which checkpoints are chosen, on the validation sets; none where it is undefined.
    pub srcc: Option<f64>,
    /// Name to value: srcc, plcc, ….
    #[serde(skip)]
    pub metrics: BTreeMap<String, f64>,
}

/// A published checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Its folder's name.
    pub name: CheckpointName,
    /// Index of the stage whose optimizer it holds.
    pub stage: usize,
    /// Steps of the stage done.
    pub number: u64,
    /// The newest committed step that it holds.
    pub step: u64,
    /// `keep` does not remove it.
    pub stage_end: bool,
    /// Of all master weights.
    pub digest: String,
}
