//! What the engine knows of the run before it begins.

use std::path::PathBuf;
use std::time::Duration;

use settings::{Hosts, Run};

use super::StageSpec;

/// The optimizer's state at both ends of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedState {
    /// What the first stage goes on from; `None`: a fresh optimizer.
    pub from: Option<PathBuf>,
    /// Whether checkpoints hold it.
    pub keep: bool,
}

/// The run as the engine sees it: ranks, stages and deadlines; no data.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Names the run to workers.
    pub run_id: String,
    /// What workers must be.
    pub version: String,
    /// The coordinator's term; the first is 1.
    pub term: u64,
    /// The host of every rank, in rank order: its length is the world size.
    pub hosts: Vec<String>,
    /// The stages in order.
    pub stages: Vec<StageSpec>,
    /// The Hugging Face directory that the first stage starts from.
    pub weights: PathBuf,
    /// Where checkpoints are published.
    pub checkpoints: PathBuf,
    /// Periodic checkpoints that stay, besides stage ends.
    pub keep: u32,
    /// A member silent for longer is lost.
    pub lease: Duration,
    /// How long the world may take to form.
    pub forming: Duration,
    /// How long a member that owes an answer may go without progress.
    pub progress: Duration,
    /// Time between a worker's heartbeats.
    pub heartbeat: Duration,
    /// The optimizer's.
    pub state: CarriedState,
}

impl Spec {
    /// The engine's view of a resolved recipe over a host file.
    #[must_use]
    pub fn new(run_id: String, run: &Run, hosts: &Hosts) -> Self {
        let names = hosts.hosts.iter().flat_map(|h| std::iter::repeat_n(h.name.clone(), h.workers as usize));
        Self {
            run_id,
            version: proto::VERSION.into(),
            term: 1,
            hosts: names.collect(),
            stages: StageSpec::all(run),
            weights: run.model.path.clone(),
            checkpoints: run.run.output.join("checkpoints"),
            keep: run.checkpoint.keep,
            lease: Duration::from_secs(run.recovery.lease),
            forming: Duration::from_secs(run.recovery.forming),
            progress: Duration::from_secs(run.recovery.progress),
            heartbeat: run.recovery.heartbeat(),
            state: CarriedState::default(),
        }
    }

    /// Number of ranks.
    #[must_use]
    pub fn world_size(&self) -> u32 {
        self.hosts.len() as u32
    }

    /// The host of `rank`, or `?` for a rank outside the world.
    #[must_use]
    pub fn host(&self, rank: u32) -> &str {
        self.hosts.get(rank as usize).map_or("?", String::as_str)
    }
}
