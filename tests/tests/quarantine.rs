//! A sample on which every worker dies ends in quarantine: the run finishes, and all other samples count once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use tests::recovery::{assert_exactly_once, journal, steps};
use tests::scene::{NO_EVALUATION, Scene};

/// Two data epochs of six steps, without the workers' deaths and with them.
fn survives(phase: &str, action: &str, more: &[&str]) -> Scene {
    let scene = Scene::prpo(12);
    let _ = scene.undisturbed(2, more);
    let planned = steps(&scene.path("undisturbed"));
    let common = [more, &NO_EVALUATION].concat();
    let poison = planned[1].samples.first().unwrap();
    let fault = format!("faults=[{{sample: \"{poison}\", phase: {phase}, do: {action}}}]");
    // The losses that bring the search further are not counted.
    let set = ["--allow-faults", "--set", fault.as_str(), "--set", "recovery.max_discards=2"];
    let ended = scene.run(&[set.as_slice(), &common].concat()).with(0);
    let run = scene.run_folder();
    let found: String = journal(&run, "SELECT group_concat(sample) FROM quarantine");
    assert_eq!(found, *poison, "{}", ended.stderr);
    // Two that begin the search over two samples, and two of the one alone.
    let losses: i64 = journal(&run, "SELECT count(*) FROM discards WHERE step = 2");
    assert_eq!(losses, 4, "{}", ended.stderr);
    assert_exactly_once(&run);
    let taken = steps(&run);
    assert_eq!(taken.len(), planned.len());
    for (taken, planned) in taken.iter().zip(&planned) {
        let all: BTreeSet<String> = planned.samples.iter().filter(|id| *id != poison).cloned().collect();
        assert_eq!(taken.samples, all, "step {}", taken.step);
    }
    let said = format!("quarantine: workers die on sample {poison:?} (found in step 2)");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert!(
        ended.stdout.contains(&format!("in quarantine, because workers died on it: {poison}")),
        "{}",
        ended.stdout
    );
    assert!(scene.read("report.html").contains(poison.as_str()));
    let summary: serde_json::Value = serde_json::from_str(&scene.read("summary.json")).unwrap();
    assert_eq!(summary["quarantined"][0]["sample"], poison.as_str());
    scene
}

#[test]
fn a_sample_that_kills_whoever_draws_its_responses_is_left_out_and_all_others_count_once() {
    let _ = survives("rollout", "kill", &[]);
}

#[test]
fn a_sample_that_ends_whoever_trains_on_it_is_left_out_and_all_others_count_once() {
    let scene =
        survives("update", "exit", &["--set", "parallel.sharding=full", "--set", "checkpoint.every=1"]);
    let reason: String = journal(&scene.run_folder(), "SELECT reason FROM quarantine");
    assert!(reason.contains("exit code 3"), "{reason}");
}

#[test]
fn a_sample_over_which_work_hangs_is_left_out_and_all_others_count_once() {
    let scene = survives("rollout", "hang", &["--set", "recovery.progress=5"]);
    let reason: String = journal(&scene.run_folder(), "SELECT reason FROM quarantine");
    assert!(reason.contains("made no progress for"), "{reason}");
}
