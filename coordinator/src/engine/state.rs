//! The states of a run, each with what only it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::v1::{SampleRollout, StepReady};

use super::digests::PartDigest;
use super::failing::Evidence;
use super::{CheckpointName, CheckpointRecord, EvaluationSet, Moment, Outcome, Rank, Source};

/// What the run is at.
#[derive(Debug)]
pub(crate) enum State {
    /// Not all ranks are there; at the deadline those that are go on, if they are enough.
    Waiting { deadline: Duration, lost: Option<String> },
    /// The groups are being made, on a store that is up or not yet; who has connected, and of them who has what another
    /// rank owns.
    Forming { deadline: Duration, store: bool, formed: BTreeSet<Rank>, mirrored: BTreeSet<Rank> },
    /// Workers that lack the run's state are given it.
    Restoring(Restoring),
    /// Weights are being loaded; the digests that came in.
    Staging { stage: usize, digests: BTreeMap<Rank, PartDigest> },
    /// An optimizer step.
    Stepping(Stepping),
    /// Held-out questions are being answered.
    Evaluating { stage: usize, number: u64, set: EvaluationSet, moment: Moment, phase: Evaluating },
    /// Weights are going to disk.
    Checkpointing { about: CheckpointRecord, phase: Checkpointing },
    /// A person holds the run between two activities.
    Paused,
    /// Somebody is lost; what is known of it is being gathered.
    Failing(Evidence),
    /// Everybody was told to stop.
    Finishing { deadline: Duration, outcome: Outcome },
    /// Over.
    Ended(Outcome),
}

/// State on its way to workers that lack it.
#[derive(Debug)]
pub(crate) enum Restoring {
    /// The shell looks whether the checkpoint is whole.
    Opening(CheckpointRecord),
    /// Everybody loads a checkpoint.
    Loading { checkpoint: CheckpointRecord, digests: BTreeMap<Rank, PartDigest>, sent: u64 },
    /// Members give those that lost it what they hold.
    Healing { source: Source, digests: BTreeMap<Rank, PartDigest>, sent: u64 },
}

/// A step on its way.
#[derive(Debug)]
pub(crate) struct Stepping {
    pub(crate) stage: usize,
    /// Within the stage.
    pub(crate) number: u64,
    /// Over all stages.
    pub(crate) step: u64,
    pub(crate) attempt: u32,
    /// It holds suspects alone, and is never committed.
    pub(crate) probe: bool,
    /// Ids of what each rank was given in this phase.
    pub(crate) shares: BTreeMap<Rank, Vec<String>>,
    pub(crate) phase: StepPhase,
}

/// How far a step is.
#[derive(Debug)]
pub(crate) enum StepPhase {
    /// The shell says what it does.
    Planning,
    /// Ranks draw responses.
    Rollout(BTreeMap<Rank, Vec<SampleRollout>>),
    /// The shell scores them.
    Scoring,
    /// Ranks prepare the update.
    Update { ready: BTreeMap<Rank, StepReady>, facts: StepFacts },
    /// Committed, and being applied; the digests that came in.
    Commit { skip: bool, applied: BTreeMap<Rank, PartDigest> },
}

/// What the step's record takes from its plan.
#[derive(Debug)]
pub(crate) struct StepFacts {
    pub(crate) lr: f64,
    pub(crate) cursor: String,
    pub(crate) samples: Vec<String>,
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// How far an evaluation is.
#[derive(Debug)]
pub(crate) enum Evaluating {
    /// The shell says who answers what.
    Planning,
    /// Ranks answer.
    Answering { asked: BTreeMap<Rank, Vec<String>>, answers: BTreeMap<Rank, Vec<SampleRollout>> },
    /// The shell scores the answers.
    Scoring,
}

/// How far a checkpoint is.
#[derive(Debug)]
pub(crate) enum Checkpointing {
    /// The shell makes the folder.
    Staging,
    /// Who was asked, in rank order, and the digests by file of those who have answered.
    Writing { writers: Vec<Rank>, written: BTreeMap<Rank, BTreeMap<String, String>> },
    /// The shell checks and publishes.
    Publishing,
}

impl State {
    /// Nothing that members report can bring it back.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Finishing { .. } | Self::Ended(_))
    }

    /// The name of the checkpoint that is being written.
    pub(crate) fn checkpoint(&self) -> Option<&CheckpointName> {
        match self {
            Self::Checkpointing { about, .. } => Some(&about.name),
            _ => None,
        }
    }
}
