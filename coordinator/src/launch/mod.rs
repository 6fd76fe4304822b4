//! Who starts the workers, and how each ended. A file a launcher.

mod external;
mod local;
mod log;

use std::collections::BTreeMap;
use std::path::PathBuf;

use settings::{DeviceKind, Hosts, Security};

use crate::engine::Rank;

pub use external::instructions;
pub use local::{LocalWorkers, find_worker};
pub use log::last_lines;

/// One worker to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its rank.
    pub rank: Rank,
    /// The host that it runs on.
    pub host: String,
    /// The address that its collectives bind to.
    pub address: String,
    /// `cpu` or `cuda:N`, N counted on its host.
    pub device: String,
    /// Compute threads.
    pub threads: usize,
    /// Added to its environment.
    pub environment: BTreeMap<String, String>,
    /// `--token-file` and `--certificates`, absolute, where the host file gives them.
    pub security: Vec<(&'static str, String)>,
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
                    device: match host.device {
                        DeviceKind::Cpu => "cpu".into(),
                        DeviceKind::Cuda => format!("cuda:{local}"),
                    },
                    threads,
                    environment,
                    security: security.clone(),
                });
            }
        }
        all
    }

    /// What its command line says, without the program.
    #[must_use]
    pub fn arguments(&self, coordinator: &str) -> Vec<String> {
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
