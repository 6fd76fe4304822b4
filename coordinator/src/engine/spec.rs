//! What the engine knows of the run before it begins.

use std::path::PathBuf;
use std::time::Duration;

use settings::{Hosts, Launcher, Redundancy, Run};

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
    /// The host of every rank, in rank order: its length is the largest world size.
    pub hosts: Vec<String>,
    /// The stages in order.
    pub stages: Vec<StageSpec>,
    /// The Hugging Face directory that the first stage starts from.
    pub weights: PathBuf,
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
    /// How long a lost worker is waited for.
    pub restart_grace: Duration,
    /// Workers below which the run does not go on.
    pub min_world: u32,
    /// Workers that take part at most.
    pub max_world: u32,
    /// Losses since the furthest step that was ever committed that the run bears.
    pub max_discards: u32,
    /// The launcher starts a lost worker again when told to.
    pub respawns: bool,
    /// What a rank owns also lies with another, where weights are cut over ranks.
    pub redundant: bool,
    /// The optimizer's.
    pub state: CarriedState,
}

impl Spec {
    /// The engine's view of a resolved recipe over a host file, for a coordinator of `term`.
    #[must_use]
    pub fn new(run_id: String, term: u64, run: &Run, hosts: &Hosts) -> Self {
        let names = hosts.hosts.iter().flat_map(|h| std::iter::repeat_n(h.name.clone(), h.workers as usize));
        let names: Vec<String> = names.collect();
        let all = names.len() as u32;
        let or_all = |given: u32| if given == 0 { all } else { given.min(all) };
        let recovery = &run.recovery;
        let max_world = or_all(recovery.max_world);
        Self {
            run_id,
            version: proto::VERSION.into(),
            term,
            hosts: names,
            stages: StageSpec::all(run),
            weights: run.model.path.clone(),
            keep: run.checkpoint.keep,
            lease: Duration::from_secs(recovery.lease),
            forming: Duration::from_secs(recovery.forming),
            progress: Duration::from_secs(recovery.progress),
            heartbeat: recovery.heartbeat(),
            restart_grace: Duration::from_secs(recovery.restart_grace),
            min_world: or_all(recovery.min_world).min(max_world),
            max_world,
            max_discards: recovery.max_discards,
            respawns: hosts.launcher != Launcher::External,
            redundant: recovery.redundancy == Redundancy::Neighbour,
            state: CarriedState::default(),
        }
    }

    /// Ranks that the host file lists.
    #[must_use]
    pub fn ranks(&self) -> u32 {
        self.hosts.len() as u32
    }

    /// The host of `rank`, or `?` for a rank outside the world.
    #[must_use]
    pub fn host(&self, rank: u32) -> &str {
        self.hosts.get(rank as usize).map_or("?", String::as_str)
    }
}
