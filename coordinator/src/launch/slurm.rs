//! Workers as steps of the Slurm allocation that the coordinator runs in, a step a worker: one that dies takes no
//! other with it, and can be started again by itself.

use std::net::ToSocketAddrs as _;
use std::process::Command;

use settings::{DeviceKind, Host, Hosts, Listen};

use super::WorkerSpec;
use super::remote::Way;
use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Srun {
    pub(super) gpus_per_node: u32,
}

impl Way for Srun {
    fn client(&self, worker: &WorkerSpec, command: &[String]) -> Vec<String> {
        let options = [
            // Steps of one node share it.
            "--overlap".to_owned(),
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
            format!("--nodelist={}", worker.host),
            format!("--job-name=rank-{}", worker.rank),
            "--kill-on-bad-exit=0".to_owned(),
            // All GPUs of the node; the worker takes the one that its device names.
            match self.gpus_per_node {
                0 => "--gres=none".to_owned(),
                gpus => format!("--gres=gpu:{gpus}"),
            },
            "--cpu-bind=none".to_owned(),
            "--unbuffered".to_owned(),
        ];
        let mut line = vec!["srun".to_owned()];
        line.extend(options);
        line.extend(command.iter().cloned());
        line
    }

    fn advice(&self, _: &WorkerSpec, _: &str) -> Option<String> {
        // Nodes come and go.
        None
    }
}

/// The host file with the allocation's hosts, and with an address that they reach to listen on.
///
/// # Errors
/// Outside an allocation, if a host of the file is not in it, or if a node's address cannot be found.
pub(super) fn in_allocation(mut hosts: Hosts) -> Result<Hosts, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let list = variable("SLURM_JOB_NODELIST").ok_or_else(|| {
        Failure::input(
            "launcher: slurm works within an allocation, and SLURM_JOB_NODELIST is not set: use \"coordinator submit\", \
             or sbatch or salloc",
        )
    })?;
    let nodes = lines_of("scontrol", &["show", "hostnames", &list])?;
    if hosts.hosts.is_empty() {
        let tasks = match hosts.slurm.gpus_per_node {
            0 => per_node(&variable("SLURM_TASKS_PER_NODE").unwrap_or_default(), nodes.len()),
            gpus => vec![gpus; nodes.len()],
        };
        let device = if hosts.slurm.gpus_per_node > 0 { DeviceKind::Cuda } else { DeviceKind::Cpu };
        hosts.hosts = nodes.iter().zip(tasks).map(|(node, workers)| host(node, workers, device)).collect();
    }
    for host in &mut hosts.hosts {
        if !nodes.contains(&host.name) {
            return Err(Failure::input(format!(
                "host {} is not in the allocation ({list}); expected the names of its nodes, or no hosts at all",
                host.name
            )));
        }
        if host.address == LOOPBACK {
            host.address = address_of(&host.name)?;
        }
    }
    if hosts.coordinator == Listen::default() && nodes.len() > 1 {
        let here = variable("SLURMD_NODENAME").unwrap_or_else(|| "localhost".into());
        hosts.coordinator.listen = format!("{}:0", address_of(&here)?);
    }
    Ok(hosts)
}

const LOOPBACK: &str = "127.0.0.1";

fn host(node: &str, workers: u32, device: DeviceKind) -> Host {
    Host {
        name: node.to_owned(),
        address: LOOPBACK.into(),
        user: None,
        workers,
        device,
        threads: 0,
        environment: std::collections::BTreeMap::new(),
    }
}

/// Tasks of each node, from Slurm's `2(x3),1`; one where it says nothing.
fn per_node(text: &str, nodes: usize) -> Vec<u32> {
    let mut all: Vec<u32> = text
        .split(',')
        .flat_map(|part| {
            let (tasks, times) = part.split_once("(x").unwrap_or((part, "1)"));
            let times = times.trim_end_matches(')').parse().unwrap_or(1);
            std::iter::repeat_n(tasks.trim().parse().unwrap_or(1), times)
        })
        .collect();
    all.resize(nodes, 1);
    all
}

/// The IP address of a node: as its name resolves, else as Slurm knows it.
fn address_of(node: &str) -> Result<String, Failure> {
    let resolved = |name: &str| {
        let mut all = (name, 0).to_socket_addrs().ok()?.map(|address| address.ip()).collect::<Vec<_>>();
        all.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
        all.first().map(ToString::to_string)
    };
    if let Some(address) = resolved(node) {
        return Ok(address);
    }
    let shown = lines_of("scontrol", &["show", "node", "--oneliner", node])?.join(" ");
    let known = shown.split(' ').find_map(|word| word.strip_prefix("NodeAddr="));
    known.and_then(resolved).ok_or_else(|| {
        Failure::input(format!(
            "node {node} has no address: its name does not resolve here; give hosts with addresses in the host file"
        ))
    })
}

fn lines_of(program: &str, arguments: &[&str]) -> Result<Vec<String>, Failure> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|e| {
        Failure::input(format!("cannot run \"{}\": {e}; expected Slurm's programs on PATH", line()))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::retry(format!("\"{}\" failed: {said}", line())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_every_node_are_slurms_never_a_division() {
        assert_eq!(per_node("2(x3),1", 4), [2, 2, 2, 1]);
        assert_eq!(per_node("4,1(x2)", 3), [4, 1, 1]);
        assert_eq!(per_node("", 2), [1, 1]);
    }
}
