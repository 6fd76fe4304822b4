//! `recovery:`, `checkpoint:` and `faults:`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Dtype;

/// `recovery:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// Where else a rank's slices of the optimizer's state lie, where weights are cut over ranks.
    pub redundancy: Redundancy,
    /// A worker silent for longer is lost, seconds.
    pub lease: u64,
    /// How long the world may take to form, seconds.
    pub forming: u64,
    /// How long one stage of a step may take without progress, seconds.
    pub progress: u64,
    /// How long a lost worker is waited for before the run goes on without it, seconds.
    pub restart_grace: u64,
    /// How long workers wait for a coordinator that is gone, seconds.
    pub coordinator_grace: u64,
    /// Workers below which the run does not go on; 0: all that the host file lists.
    pub min_world: u32,
    /// Workers that take part at most, the others stand by; 0: all.
    pub max_world: u32,
    /// Losses since the furthest step that was ever committed, after which the run fails.
    pub max_discards: u32,
}

/// Where else a rank's slices of the optimizer's state lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redundancy {
    /// In checkpoints alone.
    #[default]
    None,
    /// In the memory of another rank, on another host where there is one.
    Neighbour,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            redundancy: Redundancy::None,
            lease: 15,
            forming: 120,
            progress: 600,
            restart_grace: 60,
            coordinator_grace: 300,
            min_world: 0,
            max_world: 0,
            max_discards: 5,
        }
    }
}

impl Recovery {
    /// Time between a worker's heartbeats: a fifth of the lease, so that four may be lost.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.lease.saturating_mul(1000) / 5)
    }
}

/// `checkpoint:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Steps between checkpoints; a stage's end always writes one.
    pub every: u64,
    /// Newest checkpoints that stay, besides stage ends.
    pub keep: u32,
    /// Type of the weights on disk; the compute type's when absent.
    pub dtype: Option<Dtype>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: 50, keep: 3, dtype: None }
    }
}

/// A planned fault: at a rank, step and phase, do something; or whenever a rank works on a sample. Refused without
/// `--allow-faults`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// On which rank; absent where a sample is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// At which step (1 is the first); absent where a sample is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// On every rank that has this sample before it, each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
    /// When in the step; `rollout` or `update` where a sample is named.
    pub phase: Phase,
    /// What happens.
    #[serde(rename = "do")]
    pub action: FaultAction,
}

/// A moment of a step on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// While a world forms that is to begin with this step, by what the worker holds (1 where it holds nothing): before
    /// it meets the others.
    Forming,
    /// While responses are drawn: when each has its first token. Where a sample is named, before anything is drawn.
    Rollout,
    /// Before anything of the update is computed.
    Update,
    /// After the first micro-batch's backward pass.
    Backward,
    /// When the first sum of gradients over ranks has begun.
    AllReduce,
    /// When StepReady has been sent.
    Prepared,
    /// After StepReady, before Commit is applied.
    Commit,
    /// While a checkpoint is written.
    Checkpoint,
}

/// What a planned fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// The process aborts at once (SIGKILL to itself).
    Kill,
    /// The process stands still until somebody lets it go on (SIGSTOP to itself).
    Stop,
    /// The process ends with exit code 3.
    Exit,
    /// Work stands still for ever; heartbeats go on.
    Hang,
    /// Work stands still until there is a file `logs/fault-N.go` in the run folder, a minute at most; heartbeats go on.
    /// Whoever planned it sees by `logs/fault-N.struck` that the moment has come, and acts. N is the fault's place in
    /// the list, from 0 on.
    Wait,
}
