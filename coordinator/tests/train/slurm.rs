//! Runs as Slurm jobs on three hosts, through power-offs, a cut cable and the end of their time.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, processes_naming};
use crate::recovers::committed;
use crate::support::{PATIENCE, Scenario, wait_for, wait_within};

/// A run of `steps` as a job.
struct Job<'a> {
    cluster: &'a Cluster,
    scenario: &'a Scenario,
    id: String,
    steps: u64,
}

impl<'a> Job<'a> {
    fn submit(cluster: &'a Cluster, scenario: &'a Scenario, nodes: u32, steps: u64, set: &[&str]) -> Self {
        Self::submit_for("time: '10'", cluster, scenario, nodes, steps, set)
    }

    /// With these keys of the host file's `slurm`.
    fn submit_for(
        keys: &str,
        cluster: &'a Cluster,
        scenario: &'a Scenario,
        nodes: u32,
        steps: u64,
        set: &[&str],
    ) -> Self {
        let hosts = format!("launcher: slurm\nslurm: {{ nodes: {nodes}, {keys} }}\n");
        fs::write(scenario.path("hosts.yaml"), hosts).unwrap();
        let path = |name: &str| scenario.path(name).display().to_string();
        let (program, hosts, recipe) = (path("bin/coordinator"), path("hosts.yaml"), path("recipe.yaml"));
        let mut line = vec![program.as_str(), "submit", "--nodes", &hosts, "--recipe", &recipe];
        line.extend(set.iter().flat_map(|set| ["--set", set]));
        let hold = path("hold");
        let output = cluster.submit(&line, &[("FAKE_DELAY_MS", "25"), ("FAKE_HOLD", &hold)]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let id = text(&output.stdout);
        assert!(id.parse::<u64>().is_ok(), "{id} {}", text(&output.stderr));
        Self { cluster, scenario, id, steps }
    }

    fn log_file(&self) -> PathBuf {
        self.scenario.run_folder().join(format!("logs/job-{}.log", self.id))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn wait_for_steps(&self, steps: usize) {
        let file = self.scenario.run_folder().join("metrics.jsonl");
        wait_for(&format!("step {steps}"), || {
            let text = fs::read_to_string(&file).ok();
            let over = self.log().contains("the coordinator ended with");
            assert!(!over, "{}", self.log());
            text.filter(|text| text.lines().count() >= steps).map(drop)
        });
    }

    fn wait_for_word(&self, word: &str) {
        self.wait_for_word_within(PATIENCE, word);
    }

    fn wait_for_word_within(&self, time: Duration, word: &str) {
        let deadline = Instant::now() + time;
        wait_within(time, word, || {
            let log = self.log();
            assert!(Instant::now() < deadline, "{word:?} is not in:\n{log}");
            log.contains(word).then_some(())
        });
    }

    /// Asserts that the job ends well, that every step was committed once, and that nothing is left.
    fn finishes(&self) {
        self.cluster.expect(&self.id, "COMPLETED", &self.log_file());
        let (steps, samples) = committed(self.scenario);
        assert_eq!(steps, (1..=self.steps).collect::<Vec<_>>(), "{}", self.log());
        assert_eq!(samples as u64, 4 * self.steps);
        wait_for("the end of all processes of the run", || {
            processes_naming(&self.scenario.path("")).is_empty().then_some(())
        });
    }

    fn terms(&self) -> usize {
        let names = fs::read_dir(self.scenario.run_folder().join("terms")).unwrap();
        names.filter(|name| name.as_ref().unwrap().path().extension().is_none()).count()
    }
}

fn stage(steps: u64) -> String {
    format!("{{ name: explore, steps: {steps}, evaluation: {{ every: 0 }} }}")
}

#[test]
fn a_node_that_loses_power_shrinks_the_world_and_the_job_finishes_with_the_others() {
    let (cluster, scenario) = (Cluster::up(3), Scenario::new(&stage(250)));
    let set = ["recovery.min_world=2", "recovery.restart_grace=3", "checkpoint.every=20"];
    let job = Job::submit(&cluster, &scenario, 3, 250, &set);
    job.wait_for_steps(5);
    for (rank, node) in ["n1", "n2", "n3"].iter().enumerate() {
        let log = scenario.read(&format!("logs/rank-{rank}.attempt-1.log"));
        assert!(log.contains(&format!(" on {node}\n")), "{log}");
    }
    cluster.call(&["kill", "n3"]);
    job.finishes();
    let log = job.log();
    assert!(log.contains("rank 2 on n3 was lost") && log.contains("epoch 2: 2 workers"), "{log}");
    assert_eq!((job.terms(), cluster.job(&job.id, "Restarts").as_str()), (1, "0"));
}

#[test]
fn a_job_whose_coordinators_node_loses_power_is_queued_again_and_goes_on_elsewhere() {
    let (cluster, scenario) = (Cluster::up(3), Scenario::new(&stage(60)));
    let job = Job::submit(&cluster, &scenario, 2, 60, &["checkpoint.every=10"]);
    job.wait_for_steps(12);
    cluster.call(&["kill", "n1"]);
    job.finishes();
    let log = job.log();
    assert!(log.contains("start 1, on n[2-3]") && log.contains("goes on after step "), "{log}");
    assert_eq!(job.terms(), 2);
}

#[test]
fn a_job_that_is_told_that_its_time_is_over_writes_a_checkpoint_and_goes_on_in_another_start() {
    let (cluster, scenario) = (Cluster::up(3), Scenario::new(&stage(60)));
    let job = Job::submit(&cluster, &scenario, 3, 60, &["checkpoint.every=1000"]);
    job.wait_for_steps(10);
    cluster.call(&["exec", "ctl", "scancel", "-b", "-s", "USR1", &job.id]);
    job.wait_for_word("the coordinator ended with 0");
    assert!(scenario.run_folder().join("checkpoints/latest/manifest.json").is_file(), "{}", job.log());
    job.finishes();
    let log = job.log();
    assert!(log.contains("start 1, on n[1-3]") && log.contains("no step is repeated"), "{log}");
    assert_eq!((job.terms(), cluster.job(&job.id, "Restarts").as_str()), (2, "1"));
}

/// Slurm's own signal would come when it is too late.
#[test]
fn a_job_whose_checkpoints_take_longer_than_was_known_reminds_itself_of_its_end() {
    let (cluster, scenario) = (Cluster::up(3), Scenario::new(&stage(60)));
    let keys = "time: '2', extra: ['--signal=B:USR1@1']";
    let job = Job::submit_for(keys, &cluster, &scenario, 2, 60, &["checkpoint.every=10"]);
    job.wait_for_steps(12);
    fs::write(scenario.path("hold"), "").unwrap();
    job.wait_for_word_within(2 * PATIENCE, "the time is nearly over: ");
    fs::remove_file(scenario.path("hold")).unwrap();
    job.wait_for_word("the coordinator ended with 0");
    job.finishes();
    assert_eq!((job.terms(), cluster.job(&job.id, "Restarts").as_str()), (2, "1"), "{}", job.log());
}

#[test]
fn a_start_of_the_job_that_a_cut_cable_keeps_alive_changes_nothing_any_more() {
    let (cluster, scenario) = (Cluster::up(3), Scenario::new(&stage(250)));
    let set = ["checkpoint.every=20", "recovery.min_world=1", "recovery.restart_grace=2"];
    let job = Job::submit(&cluster, &scenario, 2, 250, &set);
    job.wait_for_steps(5);
    // Its coordinator goes on with the worker of its own node, on the same file system; not to the end before Slurm
    // has found out.
    cluster.call(&["cut", "n1"]);
    job.wait_for_word("epoch 2: 1 workers");
    fs::write(scenario.path("hold"), "").unwrap();
    job.wait_for_word("start 1, on n[2-3]");
    job.wait_for_word("another coordinator has taken over this run");
    fs::remove_file(scenario.path("hold")).unwrap();
    cluster.call(&["heal", "n1"]);
    job.finishes();
    assert_eq!(job.terms(), 2, "{}", job.log());
}
