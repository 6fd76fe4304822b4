//! Workers as child processes on this host, which die with the coordinator.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{LOG_LINES, WorkerSpec, last_lines};
use crate::engine::{Event, Exit, Rank};
use crate::failure::Failure;
use crate::folder::RunFolder;

/// The worker's program: beside the coordinator's own, else on `PATH`.
///
/// # Errors
/// If there is none.
pub(super) fn find_worker() -> Result<PathBuf, Failure> {
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
    program: PathBuf,
    workers: Vec<WorkerSpec>,
    address: String,
    folder: RunFolder,
    events: mpsc::UnboundedSender<Event>,
    running: BTreeMap<Rank, Running>,
}

/// A child, as far as the launcher needs it.
#[derive(Debug)]
struct Running {
    end: watch::Sender<bool>,
    watcher: JoinHandle<()>,
}

impl LocalWorkers {
    /// Starts every worker; how each ends by itself comes as [`Event::Exited`]. Must be called on a thread that lives as
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
        let mut all = Self {
            program: program.to_owned(),
            workers: workers.to_vec(),
            address: address.to_owned(),
            folder: folder.clone(),
            events: events.clone(),
            running: BTreeMap::new(),
        };
        workers.iter().try_for_each(|worker| all.restart(worker.rank))?;
        Ok(all)
    }

    /// Kills what is left of a rank's process and starts another, with a log of its own. On the same thread as
    /// [`LocalWorkers::start`].
    ///
    /// # Errors
    /// If a log cannot be made or the process cannot be started.
    pub fn restart(&mut self, rank: Rank) -> Result<(), Failure> {
        if let Some(old) = self.running.remove(&rank) {
            old.end.send_replace(true);
        }
        let Some(worker) = self.workers.iter().find(|worker| worker.rank == rank) else { return Ok(()) };
        let log = self.folder.new_log(rank);
        let child = spawn(&self.program, worker, &self.address, &log)
            .map_err(|e| Failure::other(format!("cannot start {}: {e}", self.program.display())))?;
        let (end, asked) = watch::channel(false);
        let watcher = tokio::spawn(watch_child(rank, child, log, asked, self.events.clone()));
        self.running.insert(rank, Running { end, watcher });
        Ok(())
    }

    /// Kills what still lives, and waits until all are gone.
    pub async fn end(mut self) {
        for running in self.running.values() {
            running.end.send_replace(true);
        }
        for (_, running) in std::mem::take(&mut self.running) {
            // A watcher that panicked has dropped its child, which kills it.
            let _ = running.watcher.await;
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
        command.pre_exec(move || die_with(coordinator, libc::SIGKILL));
    }
    command.spawn()
}

/// Has the kernel signal this process when its parent's thread ends; fails if the parent is gone already.
pub(super) fn die_with(parent: u32, by: i32) -> io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, by) } != 0 {
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
    let process = child.id().unwrap_or(0);
    let status = tokio::select! {
        biased;
        () = asked(&mut end) => {
            // Both fail only where the child has ended already. Who asked does not want to be told.
            let _ = child.start_kill();
            let _ = child.wait().await;
            return;
        }
        status = child.wait() => status,
    };
    let exit = status.map_or(Exit::Code(-1), exit);
    // Nobody listens once the run is over.
    let _ = events.send(Event::Exited { rank, process, exit, last_lines: last_lines(&log, LOG_LINES) });
}

/// Returns when the child is to be killed.
async fn asked(end: &mut watch::Receiver<bool>) {
    // An error is a sender that is gone: the launcher was dropped.
    let _ = end.wait_for(|end| *end).await;
}

pub(super) fn exit(status: ExitStatus) -> Exit {
    match (status.signal(), status.code()) {
        (Some(signal), _) => Exit::Signal(signal),
        (None, code) => Exit::Code(code.unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What is told of a worker that runs `script` while `then` is done with its launcher.
    async fn told(script: &str, then: impl AsyncFnOnce(&mut LocalWorkers)) -> Vec<Exit> {
        let scene = tempfile::tempdir().expect("a folder");
        let folder = RunFolder::make(scene.path()).expect("made");
        let program = scene.path().join("worker");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writable");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let worker = WorkerSpec {
            rank: 0,
            host: "h".into(),
            address: "127.0.0.1".into(),
            user: None,
            device: "cpu".into(),
            threads: 1,
            environment: BTreeMap::new(),
            security: Vec::new(),
            instead: None,
        };
        let (events, mut queue) = mpsc::unbounded_channel();
        let mut all = LocalWorkers::start(&program, &[worker], "a:1", &folder, &events).expect("started");
        drop(events);
        then(&mut all).await;
        all.end().await;
        let mut exits = Vec::new();
        // It ends when nobody is left who could tell.
        while let Some(event) = queue.recv().await {
            if let Event::Exited { exit, .. } = event {
                exits.push(exit);
            }
        }
        exits
    }

    #[tokio::test]
    async fn an_end_that_the_launcher_was_asked_for_is_not_told() {
        let exits = told("exec sleep 1000", async |all| all.restart(0).expect("started again"));
        assert_eq!(exits.await, []);
    }

    #[tokio::test]
    async fn an_end_by_itself_is_told() {
        let exits = told("exit 3", async |all| {
            let watcher = &mut all.running.get_mut(&0).expect("it runs").watcher;
            watcher.await.expect("no panic");
            all.running.clear();
        });
        assert_eq!(exits.await, [Exit::Code(3)]);
    }
}
