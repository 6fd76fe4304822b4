//! Workers over the system's ssh: keys, ports and known hosts are those of its configuration.

use super::WorkerSpec;
use super::remote::Way;
use super::script::quoted;

/// Never asks, notices a host that is silent, and shares no connection that outlives it.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlMaster=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
];

#[derive(Debug)]
pub(super) struct Ssh;

impl Way for Ssh {
    fn client(&self, worker: &WorkerSpec, command: &[String]) -> Vec<String> {
        let options = OPTIONS.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]);
        let mut line: Vec<String> = ["ssh".to_owned(), "-T".to_owned()].into_iter().chain(options).collect();
        let line_end = ["--".to_owned(), target(worker), format!("exec {}", quoted(command))];
        line.extend(line_end);
        line
    }

    fn advice(&self, worker: &WorkerSpec, said: &str) -> Option<String> {
        let hopeless = ["Permission denied", "Host key verification failed", "Could not resolve hostname"];
        let line = said.lines().find(|line| hopeless.iter().any(|words| line.contains(words)))?;
        let target = target(worker);
        Some(format!(
            "{}: make \"ssh -o BatchMode=yes {target} true\" work (its key, its name, its entry in known_hosts)",
            line.trim()
        ))
    }
}

fn target(worker: &WorkerSpec) -> String {
    let user = worker.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    format!("{user}{}", worker.address)
}
