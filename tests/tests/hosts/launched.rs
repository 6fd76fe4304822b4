//! Workers that the coordinator starts over ssh, and a Slurm job.

use tests::program;
use tests::recovery::{assert_exactly_once, steps, weights};
use tests::running::wait_for;
use tests::scene::{NO_EVALUATION, Scene};

use crate::cluster::{self, Cluster};
use crate::site::{LEASE, Site};
use crate::sshd::Sshd;

/// The launcher tries until the host answers again.
#[test]
fn a_host_behind_ssh_that_loses_power_gets_its_worker_back_when_it_is_up_again() {
    let site = Site::new(40, "ssh");
    let expected = site.scene.undisturbed(2, &[]);
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
    let (cluster, scene) = (Cluster::up(3), Scene::prpo(20));
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
