//! The session with the coordinator: async messages on one side, the tensor thread on the other. A stream may break:
//! what the tensor thread holds stays, and a new stream is looked for.

mod coordinator;
mod link;
mod serve;
mod stamp;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use proto::v1::worker_message::Body as Report;
use proto::v1::{Join, Welcome, WorkerMessage};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, interval, timeout};
use tracing::{info, warn};

pub use coordinator::Coordinator;
pub use stamp::Stamp;

use crate::bench::Shared;
use crate::control::Control;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::work::{Assignment, Task};
use link::{Link, Search};
use serve::Ended;

/// How long a new process looks for a coordinator that is not up yet.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// How long the tensor thread may take to notice that its stream is gone, before what it holds is told.
const SETTLING: Duration = Duration::from_secs(2);
/// How often a worker looks for the run folder, and the time between two looks.
const LOOKS: usize = 5;
const LOOK: Duration = Duration::from_millis(500);

/// Who this worker says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its rank in the run.
    pub rank: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The local address that its collectives bind to.
    pub address: String,
    /// Compute threads; 0: libtorch's own choice.
    pub threads: usize,
    /// The node that it runs on.
    pub host: String,
}

/// The tensor thread's body.
pub type Work = fn(Assignment);

/// Joins, then carries orders to the tensor thread (`work`) and its reports back, until told to stop. When the stream
/// breaks it joins again, for as long as the recipe's `recovery.coordinator_grace` says.
///
/// # Errors
/// If the coordinator cannot be reached or stays away (75), refuses this worker (1), or work fails (1).
pub async fn run(
    identity: Identity,
    coordinator: &Coordinator,
    device: tch::Device,
    work: Work,
) -> Result<(), Failure> {
    let mut told_to_end = signal(SignalKind::terminate())
        .map_err(|e| Failure::other(format!("cannot listen for SIGTERM: {e}")))?;
    let mut member = Member {
        identity,
        device,
        work,
        progress: Progress::default(),
        control: Control::default(),
        term: 0,
        streams: 0,
        joined: None,
        leaving: None,
    };
    loop {
        let link = tokio::select! {
            link = member.join(coordinator) => link?,
            () = ended(&mut told_to_end) => {
                return Err(Failure::retry("told to end (SIGTERM) while there was no coordinator"));
            }
        };
        match member.serve(link, &mut told_to_end).await? {
            Ended::Stopped => return Ok(()),
            Ended::Lost(reason) => {
                member.control.forget();
                warn!(reason, "the stream is gone; looking for the coordinator");
            }
        }
    }
}

async fn ended(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// This worker over all its streams.
struct Member {
    identity: Identity,
    device: tch::Device,
    work: Work,
    progress: Progress,
    control: Control,
    /// The highest that it has seen.
    term: u64,
    streams: u64,
    joined: Option<Joined>,
    /// It was told to end, and does then at the latest.
    leaving: Option<Instant>,
}

/// The run that it is in, and its tensor thread.
struct Joined {
    run_id: String,
    run_json: String,
    grace: Duration,
    tasks: Sender<Task>,
    reports: UnboundedReceiver<(Stamp, Report)>,
}

impl Member {
    async fn join(&self, coordinator: &Coordinator) -> Result<Link, Failure> {
        let patience = self.joined.as_ref().map_or(CONNECT_PATIENCE, |joined| joined.grace);
        // What it says that it holds is to be what it holds; an order that takes long is not waited for.
        let _ = timeout(SETTLING, self.control.idle()).await;
        let search = Search { coordinator, patience, holds: self.joined.is_some(), term: self.term };
        search.join(|| self.introduction()).await
    }

    fn introduction(&self) -> WorkerMessage {
        let Identity { rank, host, device, .. } = &self.identity;
        let join = Join {
            version: proto::VERSION.into(),
            host: host.clone(),
            process: std::process::id(),
            device: device.clone(),
            run_id: self.joined.as_ref().map(|joined| joined.run_id.clone()).unwrap_or_default(),
            held: self.control.held(),
        };
        Stamp { rank: *rank, term: self.term, ..Stamp::default() }.seal(Report::Join(join))
    }

    /// Starts the tensor thread, or tells it of what the coordinator says anew.
    async fn take_up(&mut self, welcome: &Welcome) -> Result<(), Failure> {
        let Welcome { run_id, run_json, .. } = welcome;
        let run: settings::Run = serde_json::from_str(run_json)
            .map_err(|e| Failure::other(format!("the coordinator's recipe cannot be read: {e}")))?;
        sees(&run.run.output.join(proto::MARK), &welcome.mark).await?;
        let grace = Duration::from_secs(run.recovery.coordinator_grace);
        if let Some(joined) = &mut self.joined {
            if joined.run_id != *run_id {
                info!(run = run_id, before = joined.run_id, "another run: what was held is forgotten");
                self.control.hold(None);
                joined.tell(Task::Begin { run: Box::new(run), run_id: run_id.clone() })?;
            } else if joined.run_json != *run_json {
                info!("the recipe has changed");
                joined.tell(Task::Adopt { run: Box::new(run) })?;
            }
            (joined.run_id, joined.run_json, joined.grace) = (run_id.clone(), run_json.clone(), grace);
            return Ok(());
        }
        let (tasks, work_tasks) = std::sync::mpsc::channel();
        let (work_reports, reports) = unbounded_channel();
        let assignment = Assignment {
            identity: self.identity.clone(),
            device: self.device,
            run,
            run_id: run_id.clone(),
            shared: Shared { progress: self.progress.clone(), control: self.control.clone() },
            tasks: work_tasks,
            reports: work_reports,
        };
        let work = self.work;
        thread::Builder::new()
            .name("tensors".into())
            .spawn(move || work(assignment))
            .map_err(|e| Failure::other(format!("cannot start the tensor thread: {e}")))?;
        let (run_id, run_json) = (run_id.clone(), run_json.clone());
        self.joined = Some(Joined { run_id, run_json, grace, tasks, reports });
        Ok(())
    }
}

impl Joined {
    fn tell(&self, task: Task) -> Result<(), Failure> {
        self.tasks.send(task).map_err(|_| dead())
    }
}

/// Whether the run folder here is the coordinator's, which wrote `mark` into it.
async fn sees(file: &Path, mark: &str) -> Result<(), Failure> {
    let mut pause = interval(LOOK);
    let mut reason = String::new();
    // A network file system may need a moment.
    for _ in 0..LOOKS {
        pause.tick().await;
        reason = match std::fs::read_to_string(file) {
            Ok(held) if mark.is_empty() || held.trim() == mark => return Ok(()),
            Ok(_) => "does not hold what the coordinator wrote there".into(),
            Err(_) if mark.is_empty() => return Ok(()),
            Err(error) => error.to_string(),
        };
    }
    Err(Failure::input(format!(
        "{}: {reason}: host {} sees another run folder; expected one that all hosts share, under the same path",
        file.display(),
        hostname()
    )))
}

fn dead() -> Failure {
    Failure::other("the tensor thread has ended; its reason stands above")
}

/// The machine's name.
#[must_use]
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".into(), |s| s.trim().to_string())
}
