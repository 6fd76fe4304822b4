//! Two hosts with a worker each, and the coordinator on a third.

use std::process::{Child, Stdio};

use serde_json::Value;
use tests::recovery::{assert_exactly_once, steps};
use tests::running::Running;
use tests::scene::{NO_EVALUATION, Scene};
use tests::{left, program};

use crate::cluster::Cluster;

/// Where the coordinator listens on its host.
const ADDRESS: &str = "10.77.0.1:7700";
/// What makes the lease short, so that silence is found soon.
pub(crate) const LEASE: [&str; 2] = ["--set", "recovery.lease=4"];

/// Two hosts with a worker each, and the coordinator on a third.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) scene: Scene,
    workers: Vec<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // It fails only where it has ended.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Site {
    pub(crate) fn new(steps: usize, launcher: &str) -> Self {
        let scene = Scene::prpo(steps);
        let host = |n: u32| format!("  - {{ name: n{n}, address: 10.77.0.1{n}, workers: 1, threads: 1 }}\n");
        let hosts = format!(
            "launcher: {launcher}\ncoordinator: {{ listen: \"{ADDRESS}\" }}\nhosts:\n{}{}",
            host(1),
            host(2)
        );
        std::fs::write(scene.path("hosts.yaml"), hosts).unwrap();
        Self { cluster: Cluster::bare(2), scene, workers: Vec::new() }
    }

    /// Starts the coordinator, and the workers as a person would.
    pub(crate) fn begin(&mut self, set: &[&str]) -> Running {
        let running = self.coordinator(set);
        let _ = running.address();
        self.worker(1);
        self.worker(2);
        running
    }

    pub(crate) fn coordinator(&self, set: &[&str]) -> Running {
        let files = ["--nodes", &self.scene.text("hosts.yaml"), "--recipe", &self.scene.text("recipe.yaml")];
        let mut command = self.cluster.command(&["exec", "ctl"]);
        command.arg(program("coordinator")).args(files).args(LEASE).args(NO_EVALUATION).args(set);
        left::mark(&mut command, self.scene.folder());
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.scene.path("bin").display()));
        Running::start(command, &self.scene.run_folder())
    }

    /// Starts the worker of host `n`.
    pub(crate) fn worker(&mut self, n: u32) {
        let (host, rank, address) = (format!("n{n}"), (n - 1).to_string(), format!("10.77.0.1{n}"));
        let mut command = self.cluster.command(&["exec", &host]);
        command.arg(program("worker")).args(["--rank", &rank, "--host", &host, "--address", &address]);
        command.args(["--threads", "1", "--coordinator", ADDRESS]).env("OMP_NUM_THREADS", "1");
        left::mark(&mut command, self.scene.folder());
        let log = std::fs::File::options().create(true).append(true).open(self.scene.path(&host)).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.workers.push(command.spawn().unwrap());
    }

    /// What the coordinator says of the run.
    pub(crate) fn status(&self) -> Value {
        let mut command = self.cluster.command(&["exec", "ctl"]);
        command.arg(program("coordinator")).args(["status", "--json", "--address", ADDRESS]);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap_or_default()
    }

    /// Waits for the workers' ends.
    pub(crate) fn ends(&mut self) {
        for worker in &mut self.workers {
            worker.wait().unwrap();
        }
    }

    /// Every step once, every sample once.
    pub(crate) fn is_whole(&self, count: usize) {
        let run = self.scene.run_folder();
        assert_eq!(steps(&run).len(), count);
        assert_exactly_once(&run);
    }
}

/// Asserts that the coordinator has said that the worker of host `n` was lost. A host may be up again before its lease is
/// over: then the end of its connections is what is seen.
pub(crate) fn assert_missed(said: &str, n: u32) {
    let rank = n - 1;
    let signs = [format!("rank {rank} on n{n} was lost"), format!("rank {rank} closed its stream")];
    assert!(signs.iter().any(|sign| said.contains(sign)), "{said}");
}
