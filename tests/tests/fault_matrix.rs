//! Every kind of fault at every moment, under every sharding, in worlds of two to four (`make test-faults`).
#![cfg(feature = "fault-matrix")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use tests::recovery::{assert_exactly_once, steps, weights};
use tests::running::workers_of;
use tests::scene::{NO_EVALUATION, Scene, Start};

const PHASES: [&str; 7] = ["rollout", "update", "backward", "all_reduce", "prepared", "commit", "checkpoint"];

/// A fault in step 3 of 5, at each moment of it, on the last rank: every run finishes with the weights of one that
/// nothing happened to, and every sample counts once.
fn survives_everywhere(sharding: &str, workers: u32, action: &str, more: &[&str]) {
    let scene = Scene::new(Start::Fresh, "{ name: explore, kind: prpo, steps: 5 }");
    scene.hosts("local", workers, "127.0.0.1:0");
    let sharding = format!("parallel.sharding={sharding}");
    let set = ["--set", &sharding, "--set", "checkpoint.every=1", "--set", "recovery.lease=4"];
    let common = [set.as_slice(), &["--set", "recovery.progress=5"], &NO_EVALUATION, more].concat();
    let undisturbed = scene.text("undisturbed");
    let _ = scene.run(&[["--output", undisturbed.as_str()].as_slice(), &common].concat()).with(0);
    let expected = weights(Path::new(&undisturbed));
    for phase in PHASES {
        // Of copies the first rank writes.
        let rank = if phase == "checkpoint" { 0 } else { workers - 1 };
        let fault = format!("faults=[{{rank: {rank}, step: 3, phase: {phase}, do: {action}}}]");
        let output = scene.text(&format!("{phase}-{action}"));
        let with = ["--allow-faults", "--set", fault.as_str(), "--output", output.as_str()];
        let ended = scene.run(&[with.as_slice(), &common].concat()).with(0);
        let run = Path::new(&output);
        let at = format!("{action} in {phase}, {workers} workers, {sharding}:\n{}", ended.stderr);
        assert!(run.join("logs/fault-0.struck").exists(), "it did not strike: {at}");
        let address = std::fs::read_to_string(run.join("address")).unwrap();
        assert!(workers_of(address.trim()).is_empty(), "workers outlived the run: {at}");
        assert_eq!(steps(run).len(), 5, "{at}");
        assert_exactly_once(run);
        assert_eq!(weights(run), expected, "{at}");
    }
}

#[test]
fn killed_workers_of_two_that_hold_everything() {
    survives_everywhere("replicate", 2, "kill", &[]);
}

#[test]
fn killed_workers_of_four_that_hold_everything() {
    survives_everywhere("replicate", 4, "kill", &[]);
}

#[test]
fn killed_workers_of_two_whose_optimizer_is_cut() {
    survives_everywhere("optimizer", 2, "kill", &[]);
}

#[test]
fn killed_workers_of_three_whose_weights_are_cut() {
    survives_everywhere("full", 3, "kill", &[]);
}

#[test]
fn killed_workers_of_three_whose_slices_have_mirrors() {
    survives_everywhere("full", 3, "kill", &["--set", "recovery.redundancy=neighbour"]);
}

#[test]
fn killed_workers_of_two_on_one_node_whose_weights_are_cut() {
    survives_everywhere("hybrid", 2, "kill", &[]);
}

#[test]
fn workers_of_two_that_end_by_themselves() {
    survives_everywhere("replicate", 2, "exit", &[]);
}

#[test]
fn stopped_workers_of_two() {
    survives_everywhere("replicate", 2, "stop", &[]);
}

#[test]
fn stopped_workers_of_three_whose_weights_are_cut() {
    survives_everywhere("full", 3, "stop", &[]);
}

#[test]
fn workers_of_two_whose_work_hangs() {
    survives_everywhere("replicate", 2, "hang", &[]);
}
