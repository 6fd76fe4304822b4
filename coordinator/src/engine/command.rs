//! What the engine wants done.

use std::collections::BTreeMap;

use proto::v1::SampleRollout;
use proto::v1::coordinator_message::Body as Order;

use super::{CheckpointName, CheckpointRecord, Choice, EvaluationSet, Moment, Rank, Record, Verdict};

/// What the engine wants done, in the order given; after one that fails, none of the same list.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Take a stream in: Welcome.
    Admit {
        /// The stream.
        stream: u64,
        /// Its rank.
        rank: Rank,
        /// Its incarnation from now on.
        incarnation: u64,
    },
    /// Turn a stream away: Refused.
    Refuse {
        /// The stream.
        stream: u64,
        /// Why, and the way out.
        reason: String,
        /// The reason may pass by itself.
        again: bool,
    },
    /// Send a member an order.
    Send {
        /// To whom.
        rank: Rank,
        /// Of which incarnation.
        incarnation: u64,
        /// The epoch that it belongs to.
        epoch: u64,
        /// What.
        body: Box<Order>,
    },
    /// Close a member's stream once what was sent has left.
    Close {
        /// Whose.
        rank: Rank,
        /// Of which incarnation.
        incarnation: u64,
    },
    /// End whatever is left of a rank's process, and start another.
    Restart {
        /// Which.
        rank: Rank,
    },
    /// Put a record on disk.
    Journal(Record),
    /// Say what a step does; answered by [`super::Event::Planned`].
    Plan {
        /// Index of the stage.
        stage: usize,
        /// Within the stage; 1 is the first.
        number: u64,
        /// Counted over all stages.
        step: u64,
        /// Which try at it; 1 is the first.
        attempt: u32,
        /// The ranks to share it out to, in this order.
        world: Vec<Rank>,
        /// Which of its samples.
        choice: Choice,
    },
    /// Score a step's rollouts, put them on disk; answered by [`super::Event::Scored`].
    Score {
        /// Index of the stage.
        stage: usize,
        /// Counted over all stages.
        step: u64,
        /// Which try at it.
        attempt: u32,
        /// What every rank rolled out.
        rollouts: BTreeMap<Rank, Vec<SampleRollout>>,
    },
    /// Say who evaluates what; answered by [`super::Event::EvaluationPlanned`].
    PlanEvaluation {
        /// Whose answer it is to be.
        epoch: u64,
        /// Index of the stage.
        stage: usize,
        /// Which sets.
        set: EvaluationSet,
        /// When in the stage.
        moment: Moment,
        /// The ranks to share it out to.
        world: Vec<Rank>,
    },
    /// Score an evaluation's answers; answered by [`super::Event::EvaluationScored`].
    ScoreEvaluation {
        /// Whose answer it is to be.
        epoch: u64,
        /// Index of the stage.
        stage: usize,
        /// The newest committed step.
        step: u64,
        /// Which sets.
        set: EvaluationSet,
        /// When in the stage.
        moment: Moment,
        /// What every rank answered.
        answers: BTreeMap<Rank, Vec<SampleRollout>>,
    },
    /// Make the empty folder that workers write a checkpoint into; answered by
    /// [`super::Event::CheckpointStaged`].
    StageCheckpoint {
        /// Which.
        name: CheckpointName,
        /// Names the folder with it: a worker of another epoch writes elsewhere.
        epoch: u64,
    },
    /// Check the files against their digests and publish the folder; answered by
    /// [`super::Event::CheckpointPublished`].
    PublishCheckpoint {
        /// Which, and what it holds.
        about: CheckpointRecord,
        /// File name to sha256, as the writers report.
        digests: BTreeMap<String, String>,
    },
    /// Look whether a checkpoint is whole; answered by [`super::Event::CheckpointOpened`] or
    /// [`super::Event::CheckpointBroken`].
    OpenCheckpoint(CheckpointName),
    /// Remove a checkpoint that `keep` no longer keeps.
    RemoveCheckpoint(CheckpointName),
    /// The verdict changed.
    Announce(Verdict),
    /// The run is over: end what still lives, and leave.
    End(Outcome),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything on the agenda is done.
    Finished,
    /// A person stopped it.
    Interrupted,
    /// It could not go on.
    Failed {
        /// What, where, and the way out.
        reason: String,
        /// Of the coordinator.
        exit_code: u8,
    },
}
