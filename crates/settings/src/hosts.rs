//! The resolved host file: where workers run and who starts them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A checked host file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// Who starts the workers.
    pub launcher: Launcher,
    /// Where the coordinator listens.
    #[serde(default)]
    pub coordinator: Listen,
    /// The hosts, in rank order. Under `launcher: slurm` they may be left out: they are then those of the allocation.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// What `coordinator submit` asks Slurm for.
    #[serde(default)]
    pub slurm: Slurm,
    /// Who gets in.
    #[serde(default)]
    pub security: Security,
}

/// What `coordinator submit` asks Slurm for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// The partition; the cluster's default when absent.
    pub partition: Option<String>,
    /// The time limit as sbatch takes it, e.g. `1-00:00:00`; the partition's when absent.
    pub time: Option<String>,
    /// GPUs a node; each gets a worker where `hosts` is left out. 0: none, and `hosts` or `--ntasks-per-node` among
    /// `extra` says how many workers there are.
    pub gpus_per_node: u32,
    /// Nodes; 0: as many as there are hosts.
    pub nodes: u32,
    /// Further options of sbatch, each written as on its command line.
    pub extra: Vec<String>,
}

/// Who gets in: nothing given, everybody who reaches the port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// A folder that `coordinator certificates` wrote: TLS, and both sides show a certificate.
    pub certificates: Option<PathBuf>,
    /// A file with the join token, which every request must carry.
    pub token_file: Option<PathBuf>,
}

/// Who starts the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// The coordinator, as child processes on its own host that die with it.
    Local,
    /// The coordinator, over the system's ssh; they end with it.
    Ssh,
    /// The coordinator within a Slurm allocation, a step a worker; they end with it.
    Slurm,
    /// Somebody else, with `worker --rank N --coordinator ADDR`.
    External,
}

/// Where the coordinator listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// `host:port`; port 0 lets the system choose.
    pub listen: String,
    /// A network interface of the coordinator's host, by name: its address takes the place of the one in `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0".into(), interface: None }
    }
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Shown in messages; unique.
    pub name: String,
    /// Where its workers' collectives bind.
    #[serde(default = "loopback")]
    pub address: String,
    /// Who logs in on it under `launcher: ssh`; whoever ssh's configuration says when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Worker processes on it, one a device.
    pub workers: u32,
    /// What the workers compute on.
    #[serde(default)]
    pub device: DeviceKind,
    /// Compute threads a worker; 0: cores / workers.
    #[serde(default)]
    pub threads: u32,
    /// Added to the workers' environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

fn loopback() -> String {
    "127.0.0.1".into()
}

/// What workers compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// libtorch on CPU, Gloo between workers.
    #[default]
    Cpu,
    /// One GPU a worker, NCCL between workers.
    Cuda,
}

impl Hosts {
    /// Number of workers over all hosts.
    #[must_use]
    pub fn world_size(&self) -> u32 {
        self.hosts.iter().map(|h| h.workers).sum()
    }
}
