//! Workers on other hosts, each behind a client process of its own (ssh, srun) that carries its output into a log here
//! and its end back. The client's standard input is a pipe that nobody writes to: when it ends, because this process
//! wants it or is gone, the worker at the other end is killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::local::{die_with, exit};
use super::script::{Place, process_in, wrong_in};
use super::{LOG_LINES, WorkerSpec, last_lines};
use crate::engine::{Event, Exit, Rank};
use crate::failure::Failure;
use crate::folder::RunFolder;
use crate::tell;

/// How long a client may take to end by itself, and then to obey a signal.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two tries to start a worker: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];
/// How much of a log's begin is searched for the shell's own words, bytes.
const HEAD: u64 = 64 * 1024;

/// A way to another host.
pub(super) trait Way: std::fmt::Debug + Send + Sync {
    /// The client's command line, for a worker that `command` starts on its host.
    fn client(&self, worker: &WorkerSpec, command: &[String]) -> Vec<String>;
    /// What to do about a client that could not reach its host, where trying again is in vain.
    fn advice(&self, worker: &WorkerSpec, said: &str) -> Option<String>;
}

/// Workers on other hosts. Dropping it ends them.
#[derive(Debug)]
pub struct RemoteWorkers {
    shared: Arc<Shared>,
    workers: Vec<WorkerSpec>,
    running: BTreeMap<Rank, Running>,
}

#[derive(Debug)]
struct Running {
    end: watch::Sender<bool>,
    keeper: JoinHandle<()>,
}

/// What every worker's keeper needs.
#[derive(Debug)]
struct Shared {
    way: Box<dyn Way>,
    place: Place,
    address: String,
    folder: RunFolder,
    events: mpsc::UnboundedSender<Event>,
}

impl RemoteWorkers {
    /// Starts every worker over `way`; how each ends by itself comes as [`Event::Exited`].
    ///
    /// # Errors
    /// If this program's own folder is gone.
    pub(super) fn start(
        way: Box<dyn Way>,
        program: &Path,
        workers: &[WorkerSpec],
        address: &str,
        (folder, mark): (&RunFolder, &str),
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Failure> {
        let place = Place::new(folder, mark, program)?;
        let (address, folder, events) = (address.to_owned(), folder.clone(), events.clone());
        let shared = Arc::new(Shared { way, place, address, folder, events });
        let mut all = Self { shared, workers: workers.to_vec(), running: BTreeMap::new() };
        for worker in workers {
            all.launch(worker.rank, true);
        }
        Ok(all)
    }

    /// Ends what is left of a rank's process and starts another, with a log of its own.
    pub(super) fn restart(&mut self, rank: Rank) {
        self.launch(rank, false);
    }

    fn launch(&mut self, rank: Rank, first: bool) {
        let Some(worker) = self.workers.iter().find(|worker| worker.rank == rank).cloned() else { return };
        let before = self.running.remove(&rank).map(|old| {
            old.end.send_replace(true);
            old.keeper
        });
        let (end, asked) = watch::channel(false);
        let shared = Arc::clone(&self.shared);
        let keeper = tokio::spawn(async move {
            if let Some(before) = before {
                // One that panicked has dropped its client, which kills it.
                let _ = before.await;
            }
            Keeper { shared, worker, first, asked }.keep().await;
        });
        self.running.insert(rank, Running { end, keeper });
    }

    /// Ends what still lives, and waits until all are gone.
    pub(super) async fn end(mut self) {
        for running in self.running.values() {
            running.end.send_replace(true);
        }
        for (_, running) in std::mem::take(&mut self.running) {
            let _ = running.keeper.await;
        }
    }
}

/// Sees to one process of a rank: starts it, if need be again and again, and tells how it ended.
struct Keeper {
    shared: Arc<Shared>,
    worker: WorkerSpec,
    /// Nobody of this rank was started by this coordinator before.
    first: bool,
    asked: watch::Receiver<bool>,
}

impl Keeper {
    async fn keep(mut self) {
        let log = self.shared.folder.new_log(self.worker.rank);
        let [mut pause, most] = PAUSES;
        let mut told = String::new();
        while !*self.asked.borrow() {
            let ended = match self.spawn(&log) {
                Ok(child) => self.wait(child).await,
                Err(failure) => return self.trouble(&failure.message, failure.exit_code),
            };
            if *self.asked.borrow() {
                // Who asked does not want to be told.
                return;
            }
            let said = head(&log);
            if let Some(process) = process_in(&said) {
                let (rank, last_lines) = (self.worker.rank, last_lines(&log, LOG_LINES));
                // Nobody listens once the run is over.
                let _ = self.shared.events.send(Event::Exited { rank, process, exit: ended, last_lines });
                return;
            }
            let wrong = wrong_in(&said).or_else(|| self.shared.way.advice(&self.worker, &said));
            if let Some(wrong) = wrong.as_ref().filter(|_| self.first) {
                return self.trouble(wrong, 2);
            }
            let why = wrong.unwrap_or_else(|| format!("{ended}: {}", last_lines(&log, 2).join("; ")));
            if why != told {
                let (rank, host) = (self.worker.rank, &self.worker.host);
                tell::err(format_args!(
                    "rank {rank} on {host} could not be started, it is tried again: {why}"
                ));
                told = why;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(most),
                _ = self.asked.wait_for(|asked| *asked) => return,
            }
        }
    }

    fn trouble(&self, what: &str, exit_code: u8) {
        let (rank, host) = (self.worker.rank, &self.worker.host);
        let reason = format!("rank {rank} on {host} cannot be started: {what}");
        // Nobody listens once the run is over.
        let _ = self.shared.events.send(Event::Trouble { reason, exit_code });
    }

    fn spawn(&self, log: &PathBuf) -> Result<Child, Failure> {
        let Shared { way, place, address, .. } = &*self.shared;
        let address = reachable(address, &self.worker.address);
        let line = way.client(&self.worker, &place.command(&self.worker, &address));
        let (program, arguments) =
            line.split_first().ok_or_else(|| Failure::other("no command starts a worker"))?;
        let failed =
            |e: std::io::Error| Failure::input(format!("cannot start {program}: {e}; expected it on PATH"));
        let output = File::create(log).map_err(|e| Failure::other(format!("{}: {e}", log.display())))?;
        let errors = output.try_clone().map_err(failed)?;
        let coordinator = std::process::id();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            // A terminal's Ctrl-C is the coordinator's alone: it stops its workers in order.
            .process_group(0)
            .kill_on_drop(true);
        // What Slurm says of the whole job would be taken for the step.
        for name in ["SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE"] {
            command.env_remove(name);
        }
        // SAFETY: between fork and exec the closure makes two system calls, which are async-signal-safe, and
        // allocates nothing. The thread that it is bound to is the runtime's, which ends with the run.
        unsafe {
            command.pre_exec(move || die_with(coordinator, libc::SIGTERM));
        }
        command.spawn().map_err(failed)
    }

    /// Waits for the client's end, or ends it.
    async fn wait(&mut self, mut child: Child) -> Exit {
        // Waiting closes a child's input if it is still there.
        let input = child.stdin.take();
        let ended = tokio::select! {
            status = child.wait() => Some(status),
            _ = self.asked.wait_for(|asked| *asked) => None,
        };
        let status = match ended {
            Some(status) => status,
            None => {
                drop(input);
                end(&mut child).await
            }
        };
        status.map_or(Exit::Code(-1), |status| of_the_worker(exit(status)))
    }
}

/// Its input has ended: if that is not enough by SIGTERM, and then by SIGKILL.
async fn end(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
        return status;
    }
    if let Some(process) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // SAFETY: kill takes no pointers; the process is our child and not reaped yet.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
    if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
        return status;
    }
    // It fails only where the child has ended, which the wait then sees.
    let _ = child.start_kill();
    child.wait().await
}

/// Shells and srun tell a signal as 128 and its number.
fn of_the_worker(exit: Exit) -> Exit {
    match exit {
        Exit::Code(code @ 129..=192) => Exit::Signal(code - 128),
        other => other,
    }
}

/// The begin of a log.
fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A log that cannot be read says nothing.
    let _ = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The coordinator's address as `host` reaches it: where it listens on all addresses, the one towards that host.
fn reachable(address: &str, host: &str) -> String {
    use std::net::{SocketAddr, UdpSocket};
    let Ok(listening) = address.parse::<SocketAddr>() else { return address.to_owned() };
    if !listening.ip().is_unspecified() {
        return address.to_owned();
    }
    // Nothing is sent: connecting a datagram socket only asks the routing table.
    let towards = UdpSocket::bind((listening.ip(), 0))
        .and_then(|socket| socket.connect((host, 9)).and_then(|()| socket.local_addr()));
    towards.map_or_else(|_| address.to_owned(), |own| SocketAddr::new(own.ip(), listening.port()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_all_addresses_is_reached_by_the_one_towards_the_host() {
        assert_eq!(reachable("0.0.0.0:7700", "127.0.0.1"), "127.0.0.1:7700");
        assert_eq!(reachable("10.0.0.9:7700", "127.0.0.1"), "10.0.0.9:7700");
    }

    #[test]
    fn a_signal_comes_through_a_shell() {
        assert_eq!(of_the_worker(Exit::Code(137)), Exit::Signal(9));
        assert_eq!(of_the_worker(Exit::Code(255)), Exit::Code(255));
        assert_eq!(of_the_worker(Exit::Code(75)), Exit::Code(75));
    }
}
