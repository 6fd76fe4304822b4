//! Workers as child processes on this host, which die with the coordinator.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{WorkerSpec, last_lines};
use crate::engine::{Event, Exit, Rank};
use crate::failure::Failure;
use crate::folder::RunFolder;

/// How many lines of a dead worker's log are told.
const LOG_LINES: usize = 8;

/// The worker's program: beside the coordinator's own, else on `PATH`.
///
/// # Errors
/// If there is none.
pub fn find_worker() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.iter().cloned().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("worker")).find(|program| program.is_file()).ok_or_else(|| {
        let own = own.as_deref().map_or_else(|| "?".into(), |p| p.display().to_string());
        Failure::input(format!(
            "no program \"worker\" beside the coordinator ({own}) or on PATH: build it with \"make build\""
        ))
    })
}

/// The running children. Dropping it kills them.
#[derive(Debug)]
pub struct LocalWorkers {
    end: watch::Sender<bool>,
    watchers: Vec<JoinHandle<()>>,
}

impl LocalWorkers {
    /// Starts every worker; how each ends comes as [`Event::Exited`]. Must be called on a thread that lives as
    /// long as the run: children are bound to the thread that started them.
    ///
    /// # Errors
    /// If a log cannot be made or a process cannot be started; those started before it are killed.
    pub fn start(
        program: &Path,
        workers: &[WorkerSpec],
        address: &str,
        folder: &RunFolder,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Failure> {
        let (end, _) = watch::channel(false);
        let mut all = Self { end, watchers: Vec::new() };
        for worker in workers {
            let log = folder.log(worker.rank, 1);
            let child = spawn(program, worker, address, &log)
                .map_err(|e| Failure::other(format!("cannot start {}: {e}", program.display())))?;
            let watcher = watch_child(worker.rank, child, log, all.end.subscribe(), events.clone());
            all.watchers.push(tokio::spawn(watcher));
        }
        Ok(all)
    }

    /// Kills what still lives, and waits until all are gone.
    pub async fn end(mut self) {
        self.end.send_replace(true);
        for watcher in self.watchers.drain(..) {
            // A watcher that panicked has dropped its child, which kills it.
            let _ = watcher.await;
        }
    }
}

fn spawn(program: &Path, worker: &WorkerSpec, address: &str, log: &Path) -> io::Result<Child> {
    let output = File::create(log)?;
    let errors = output.try_clone()?;
    let coordinator = std::process::id();
    let mut command = Command::new(program);
    command
        .args(worker.arguments(address))
        .envs(&worker.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors))
        // A terminal's Ctrl-C is the coordinator's alone: it stops its workers in order.
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: between fork and exec the closure makes two system calls, which are async-signal-safe, and
    // allocates nothing.
    unsafe {
        command.pre_exec(move || die_with(coordinator));
    }
    command.spawn()
}

/// Has the kernel kill this process when its parent's thread ends; fails if the parent is gone already.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getppid takes nothing and cannot fail.
    if unsafe { libc::getppid() } as u32 == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

async fn watch_child(
    rank: Rank,
    mut child: Child,
    log: PathBuf,
    mut end: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<Event>,
) {
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = asked(&mut end) => None,
    };
    let status = match ended {
        Some(status) => status,
        None => {
            // It fails only where the child has ended, which the wait then sees.
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let exit = status.map_or(Exit::Code(-1), exit);
    // Nobody listens once the run is over.
    let _ = events.send(Event::Exited { rank, exit, last_lines: last_lines(&log, LOG_LINES) });
}

/// Returns when the children are to be killed.
async fn asked(end: &mut watch::Receiver<bool>) {
    // An error is a sender that is gone: the launcher was dropped.
    let _ = end.wait_for(|end| *end).await;
}

fn exit(status: ExitStatus) -> Exit {
    match (status.signal(), status.code()) {
        (Some(signal), _) => Exit::Signal(signal),
        (None, code) => Exit::Code(code.unwrap_or(-1)),
    }
}
