//! Who starts the workers, and how each ended. A file a launcher.

mod external;
mod local;
mod log;
mod remote;
mod script;
mod slurm;
mod ssh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use settings::{DeviceKind, Hosts, Launcher, Security};
use tokio::sync::mpsc;

use crate::engine::{Event, Rank};
use crate::failure::Failure;
use crate::folder::RunFolder;
use local::{LocalWorkers, find_worker};
use remote::RemoteWorkers;

pub use log::last_lines;

/// How many lines of a dead worker's log are told.
const LOG_LINES: usize = 8;

/// The workers of a run, by who starts them.
#[derive(Debug)]
pub enum Workers {
    /// Children of this process.
    Local(LocalWorkers),
    /// On other hosts, over ssh or srun.
    Remote(RemoteWorkers),
    /// Somebody else's.
    External,
}

/// The worker's program; `None` where somebody else starts it.
///
/// # Errors
/// If there is none.
pub fn program(hosts: &Hosts) -> Result<Option<PathBuf>, Failure> {
    match hosts.launcher {
        Launcher::External => Ok(None),
        Launcher::Local | Launcher::Ssh | Launcher::Slurm => find_worker().map(Some),
    }
}

/// The host file as it is to be used here: within a Slurm allocation with its nodes.
///
/// # Errors
/// If a Slurm allocation is needed and not there, or does not fit.
pub fn resolved(hosts: Hosts) -> Result<Hosts, Failure> {
    match hosts.launcher {
        Launcher::Slurm => slurm::in_allocation(hosts),
        Launcher::Local | Launcher::Ssh | Launcher::External => Ok(hosts),
    }
}

impl Workers {
    /// Starts every worker of a run whose folder holds `mark`, and says on the way what somebody else has to start; how each ends by itself comes as
    /// [`Event::Exited`]. Must be called on a thread that lives as long as the run: children are bound to it.
    ///
    /// # Errors
    /// If a log or process cannot be made; those started before it are killed.
    pub fn start(
        hosts: &Hosts,
        program: Option<&Path>,
        workers: &[WorkerSpec],
        address: &str,
        (folder, mark): (&RunFolder, &str),
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(Self, Option<String>), Failure> {
        let over =
            |way, program| RemoteWorkers::start(way, program, workers, address, (folder, mark), events);
        let all = match (hosts.launcher, program) {
            (Launcher::Local, Some(program)) => {
                Self::Local(LocalWorkers::start(program, workers, address, folder, events)?)
            }
            (Launcher::Ssh, Some(program)) => Self::Remote(over(Box::new(ssh::Ssh), program)?),
            (Launcher::Slurm, Some(program)) => {
                let gpus_per_node = hosts.slurm.gpus_per_node;
                Self::Remote(over(Box::new(slurm::Srun { gpus_per_node }), program)?)
            }
            _ => return Ok((Self::External, Some(external::instructions(workers, address)))),
        };
        Ok((all, None))
    }

    /// Starts a rank again.
    ///
    /// # Errors
    /// If a log or process cannot be made.
    pub fn restart(&mut self, rank: Rank) -> Result<(), Failure> {
        match self {
            Self::Local(workers) => workers.restart(rank)?,
            Self::Remote(workers) => workers.restart(rank),
            // The engine does not ask for what nobody here can do.
            Self::External => {}
        }
        Ok(())
    }

    /// Ends what still lives, and waits until all are gone.
    pub async fn end(self) {
        match self {
            Self::Local(workers) => workers.end().await,
            Self::Remote(workers) => workers.end().await,
            Self::External => {}
        }
    }
}

/// One worker to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its rank.
    pub rank: Rank,
    /// The host that it runs on.
    pub host: String,
    /// The address that its collectives bind to.
    pub address: String,
    /// Who logs in there, where that is said.
    pub user: Option<String>,
    /// `cpu` or `cuda:N`, N counted on its host.
    pub device: String,
    /// Compute threads.
    pub threads: usize,
    /// Added to its environment.
    pub environment: BTreeMap<String, String>,
    /// `--token-file` and `--certificates`, absolute, where the host file gives them.
    pub security: Vec<(&'static str, String)>,
    /// What it does instead of joining a run: a subcommand with its arguments.
    pub instead: Option<Vec<String>>,
}

impl WorkerSpec {
    /// All workers of a host file, in rank order; `cores` are those of a host whose threads are not given.
    #[must_use]
    pub fn all(hosts: &Hosts, cores: usize) -> Vec<Self> {
        let mut all = Vec::new();
        let security = security(hosts);
        for host in &hosts.hosts {
            let threads = match host.threads {
                0 => (cores / host.workers.max(1) as usize).max(1),
                given => given as usize,
            };
            for local in 0..host.workers {
                let mut environment = host.environment.clone();
                environment.entry("OMP_NUM_THREADS".into()).or_insert_with(|| threads.to_string());
                all.push(Self {
                    rank: all.len() as Rank,
                    host: host.name.clone(),
                    address: host.address.clone(),
                    user: host.user.clone(),
                    device: match host.device {
                        DeviceKind::Cpu => "cpu".into(),
                        DeviceKind::Cuda => format!("cuda:{local}"),
                    },
                    threads,
                    environment,
                    security: security.clone(),
                    instead: None,
                });
            }
        }
        all
    }

    /// What its command line says, without the program.
    #[must_use]
    pub fn arguments(&self, coordinator: &str) -> Vec<String> {
        if let Some(command) = &self.instead {
            return command.clone();
        }
        let pairs = [
            ("--rank", self.rank.to_string()),
            ("--coordinator", coordinator.to_string()),
            ("--device", self.device.clone()),
            ("--threads", self.threads.to_string()),
            ("--address", self.address.clone()),
            ("--host", self.host.clone()),
        ];
        let pairs = pairs.into_iter().chain(self.security.iter().cloned());
        pairs.flat_map(|(flag, value)| [flag.to_string(), value]).collect()
    }
}

/// What workers are told to show; they may work elsewhere than the coordinator.
fn security(hosts: &Hosts) -> Vec<(&'static str, String)> {
    let Security { certificates, token_file } = &hosts.security;
    let pairs = [("--token-file", token_file), ("--certificates", certificates)];
    let given = pairs.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    given.map(|(flag, path)| (flag, absolute(path).display().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_out_among_a_hosts_workers_unless_it_says_how_many() {
        let text = "
launcher: local
hosts:
  - { name: a, workers: 2, environment: { OMP_NUM_THREADS: \"7\" } }
  - { name: b, workers: 1, device: cuda, threads: 3 }
";
        let hosts = settings::parse_hosts("hosts.yaml", text).expect("a host file");
        let all = WorkerSpec::all(&hosts, 5);
        let seen: Vec<_> =
            all.iter().map(|w| (w.rank, w.host.as_str(), w.device.as_str(), w.threads)).collect();
        assert_eq!(seen, [(0, "a", "cpu", 2), (1, "a", "cpu", 2), (2, "b", "cuda:0", 3)]);
        assert_eq!(all[0].environment["OMP_NUM_THREADS"], "7");
        assert_eq!(all[2].environment["OMP_NUM_THREADS"], "3");
    }

    #[test]
    fn workers_are_told_what_to_show_by_absolute_paths() {
        let text = "launcher: local\nhosts: [{ name: a, workers: 1 }]\nsecurity: { certificates: keys, token_file: /t }";
        let hosts = settings::parse_hosts("hosts.yaml", text).expect("a host file");
        let said = WorkerSpec::all(&hosts, 1)[0].arguments("c:1").join(" ");
        let keys = std::path::absolute("keys").expect("a path");
        assert!(said.ends_with(&format!("--token-file /t --certificates {}", keys.display())), "{said}");
    }
}
