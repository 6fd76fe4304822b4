//! Real workers on hosts of their own: power-offs, cut cables, ssh, Slurm (`make test-cluster`).
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../coordinator/tests/train/cluster.rs"]
#[allow(dead_code, reason = "the coordinator's own tests use more of it")]
mod cluster;
#[path = "../../coordinator/tests/train/sshd.rs"]
mod sshd;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use cluster::Cluster;
use serde_json::Value;
use sshd::Sshd;
use tests::program;
use tests::recovery::{assert_exactly_once, steps, weights};
use tests::running::{Running, wait_for};
use tests::scene::{NO_EVALUATION, Scene, Start};

/// Where the coordinator listens on its host.
const ADDRESS: &str = "10.77.0.1:7700";
/// What makes the lease short, so that silence is found soon.
const LEASE: [&str; 2] = ["--set", "recovery.lease=4"];

fn scene(steps: u32) -> Scene {
    Scene::new(Start::Fresh, &format!("{{ name: explore, kind: prpo, steps: {steps} }}"))
}

/// Two hosts with a worker each, and the coordinator on a third.
struct Site {
    cluster: Cluster,
    scene: Scene,
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
    fn new(steps: u32, launcher: &str) -> Self {
        let scene = scene(steps);
        let host = |n: u32| format!("  - {{ name: n{n}, address: 10.77.0.1{n}, workers: 1, threads: 1 }}\n");
        let hosts = format!(
            "launcher: {launcher}\ncoordinator: {{ listen: \"{ADDRESS}\" }}\nhosts:\n{}{}",
            host(1),
            host(2)
        );
        std::fs::write(scene.path("hosts.yaml"), hosts).unwrap();
        Self { cluster: Cluster::up(2), scene, workers: Vec::new() }
    }

    /// Starts the coordinator, and the workers as a person would.
    fn begin(&mut self, set: &[&str]) -> Running {
        let running = self.coordinator(set);
        let _ = running.address();
        self.worker(1);
        self.worker(2);
        running
    }

    fn coordinator(&self, set: &[&str]) -> Running {
        let files = ["--nodes", &self.scene.text("hosts.yaml"), "--recipe", &self.scene.text("recipe.yaml")];
        let mut command = self.cluster.command(&["exec", "ctl"]);
        command.arg(program("coordinator")).args(files).args(LEASE).args(NO_EVALUATION).args(set);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.scene.path("bin").display()));
        Running::start(command, &self.scene.run_folder())
    }

    /// Starts the worker of host `n`.
    fn worker(&mut self, n: u32) {
        let (host, rank, address) = (format!("n{n}"), (n - 1).to_string(), format!("10.77.0.1{n}"));
        let mut command = self.cluster.command(&["exec", &host]);
        command.arg(program("worker")).args(["--rank", &rank, "--host", &host, "--address", &address]);
        command.args(["--threads", "1", "--coordinator", ADDRESS]).env("OMP_NUM_THREADS", "1");
        let log = std::fs::File::options().create(true).append(true).open(self.scene.path(&host)).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.workers.push(command.spawn().unwrap());
    }

    /// What the coordinator says of the run.
    fn status(&self) -> Value {
        let mut command = self.cluster.command(&["exec", "ctl"]);
        command.arg(program("coordinator")).args(["status", "--json", "--address", ADDRESS]);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap_or_default()
    }

    /// Waits for the epoch, and for two steps in it.
    fn goes_on_in(&self, running: &Running, epoch: u64) {
        wait_for(&format!("epoch {epoch}"), || {
            (self.status()["epoch"].as_u64().unwrap_or(0) >= epoch).then_some(())
        });
        running.wait_for_steps(self.scene.lines("metrics.jsonl").len() + 2);
    }

    /// Every step once, every sample once.
    fn is_whole(&self, count: usize) {
        let run = self.scene.run_folder();
        assert_eq!(steps(&run).len(), count);
        assert_exactly_once(&run);
    }
}

/// Of a run to which nothing happens, on this host.
fn undisturbed(scene: &Scene) -> std::collections::BTreeMap<String, String> {
    let plain = "launcher: local\nhosts: [{ name: here, workers: 2, threads: 1 }]\n";
    std::fs::write(scene.path("local.yaml"), plain).unwrap();
    let output = scene.text("undisturbed");
    let (nodes, recipe) = (scene.text("local.yaml"), scene.text("recipe.yaml"));
    let mut command = Command::new(program("coordinator"));
    command.args(["--nodes", &nodes, "--recipe", &recipe, "--output", &output]).args(NO_EVALUATION);
    let _ = Running::start(command, Path::new(&output)).end().with(0);
    weights(Path::new(&output))
}

#[test]
fn a_host_that_loses_power_is_waited_for_and_gets_its_state_back_bit_for_bit() {
    let mut site = Site::new(40, "external");
    let expected = undisturbed(&site.scene);
    let running = site.begin(&[]);
    running.wait_for_steps(5);
    site.cluster.call(&["kill", "n2"]);
    site.cluster.call(&["boot", "n2"]);
    site.worker(2);
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("rank 1 on n2 was lost"), "{}", ended.stderr);
    site.is_whole(40);
    assert_eq!(weights(&site.scene.run_folder()), expected);
}

#[test]
fn a_host_that_loses_power_for_long_leaves_a_smaller_world_and_is_taken_in_when_it_is_back() {
    let mut site = Site::new(150, "external");
    let running = site.begin(&["--set", "recovery.min_world=1", "--set", "recovery.restart_grace=1"]);
    running.wait_for_steps(5);
    site.cluster.call(&["kill", "n2"]);
    site.goes_on_in(&running, 2);
    site.cluster.call(&["boot", "n2"]);
    site.worker(2);
    site.goes_on_in(&running, 3);
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("rank 1 on n2 was lost"), "{}", ended.stderr);
    site.is_whole(150);
    let sizes: Vec<usize> = steps(&site.scene.run_folder()).iter().map(|step| step.members.len()).collect();
    assert!(sizes.contains(&1) && sizes.last() == Some(&2), "{sizes:?}");
}

#[test]
fn a_worker_behind_a_cable_that_is_cut_and_replugged_comes_back_with_its_tensors() {
    let mut site = Site::new(40, "external");
    let expected = undisturbed(&site.scene);
    let running = site.begin(&[]);
    running.wait_for_steps(5);
    site.cluster.call(&["cut", "n2"]);
    wait_for("a loss", || (site.status()["state"] == "waiting").then_some(()));
    site.cluster.call(&["heal", "n2"]);
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("rank 1 on n2 was lost"), "{}", ended.stderr);
    site.is_whole(40);
    assert_eq!(weights(&site.scene.run_folder()), expected);
}

/// The launcher tries until the host answers again.
#[test]
fn a_host_behind_ssh_that_loses_power_gets_its_worker_back_when_it_is_up_again() {
    let site = Site::new(40, "ssh");
    let expected = undisturbed(&site.scene);
    let mut sshd = Sshd::new(22);
    std::fs::create_dir(site.scene.path("bin")).unwrap();
    sshd.client(&site.scene.path("bin/ssh"));
    let up = |sshd: &mut Sshd, n: u32| {
        sshd.listen(&format!("10.77.0.1{n}"), || site.cluster.command(&["exec", &format!("n{n}")]));
    };
    up(&mut sshd, 1);
    up(&mut sshd, 2);
    let running = site.coordinator(&[]);
    running.wait_for_steps(5);
    site.cluster.call(&["kill", "n2"]);
    wait_for("a loss", || (site.status()["state"] == "waiting").then_some(()));
    site.cluster.call(&["boot", "n2"]);
    up(&mut sshd, 2);
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("rank 1 on n2 was lost"), "{}", ended.stderr);
    site.is_whole(40);
    assert_eq!(weights(&site.scene.run_folder()), expected);
    assert_eq!(cluster::processes_naming(&site.scene.run_folder()), Vec::<String>::new());
}

/// The coordinator's own node goes: Slurm gives the job to the others, and the run goes on from its checkpoint.
#[test]
fn a_slurm_job_outlives_its_first_node() {
    let (cluster, scene) = (Cluster::up(3), scene(20));
    let hosts = "launcher: slurm\nslurm: { nodes: 2, time: '10', extra: ['--ntasks-per-node=1'] }\n";
    std::fs::write(scene.path("hosts.yaml"), hosts).unwrap();
    let files = ["--nodes", &scene.text("hosts.yaml"), "--recipe", &scene.text("recipe.yaml")];
    let mut line = vec![program("coordinator").display().to_string(), "submit".into()];
    line.extend(files.iter().chain(&LEASE).chain(&NO_EVALUATION).map(|word| (*word).to_owned()));
    line.extend(["--set", "checkpoint.every=3"].map(str::to_owned));
    let output = cluster.submit(&line.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let job = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(job.parse::<u64>().is_ok(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = scene.run_folder();
    let log = run.join(format!("logs/job-{job}.log"));
    let committed =
        || std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    wait_for("steps", || (committed() >= 5).then_some(()));
    cluster.call(&["kill", "n1"]);
    cluster.expect(&job, "COMPLETED", &log);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("start 1, on n[2-3]"), "{said}");
    assert_eq!(steps(&run).len(), 20, "{said}");
    assert_exactly_once(&run);
}
