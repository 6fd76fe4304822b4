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
    /// The hosts, in rank order.
    pub hosts: Vec<Host>,
    /// Who gets in.
    #[serde(default)]
    pub security: Security,
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
    /// Somebody else, with `worker --rank N --coordinator ADDR`.
    External,
}

/// Where the coordinator listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// `host:port`; port 0 lets the system choose.
    pub listen: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0".into() }
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
