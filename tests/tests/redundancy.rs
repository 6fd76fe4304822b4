//! Slices of the optimizer's state that die with a worker: from a neighbour's memory, or else from a checkpoint.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::recovery::{assert_exactly_once, journal, steps, weights};
use tests::scene::{NO_EVALUATION, Scene};

/// A run of five steps on three workers with slices and mirrors, a checkpoint after every second one, in which `faults`
/// happen: it ends with the weights of a run without either, bit for bit. What it said, and how many steps it repeated.
fn survives(sharding: &str, faults: &str) -> (Scene, String, i64) {
    let scene = Scene::prpo(5);
    scene.hosts("local", 3, "127.0.0.1:0");
    let sharding = format!("parallel.sharding={sharding}");
    let common = ["--set", &sharding, "--set", "checkpoint.every=2"];
    let expected = scene.undisturbed(3, &common);
    let faults = format!("faults=[{faults}]");
    let set = ["--allow-faults", "--set", &faults, "--set", "recovery.redundancy=neighbour"];
    let ended = scene.run(&[set.as_slice(), &common, &NO_EVALUATION].concat()).with(0);
    let run = scene.run_folder();
    assert!(run.join("logs/fault-0.struck").exists(), "the fault did not strike:\n{}", ended.stderr);
    assert_exactly_once(&run);
    assert_eq!(steps(&run).len(), 5);
    assert_eq!(weights(&run), expected, "other weights than without the fault");
    let voided = journal(&run, "SELECT count(*) FROM steps WHERE voided = 1");
    (scene, ended.stderr, voided)
}

fn mirrored(sharding: &str, phase: &str, step: u64) -> Scene {
    let fault = format!("{{rank: 1, step: 4, phase: {phase}, do: kill}}");
    let (scene, said, voided) = survives(sharding, &fault);
    let expected = format!(
        "state after step {step} came from the mirror of rank 1 in the memory of rank 2: no step is repeated; "
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(voided, 0, "{said}");
    scene
}

#[test]
fn slices_of_weights_that_die_with_a_worker_come_from_its_neighbour_and_no_step_is_repeated() {
    let scene = mirrored("full", "backward", 3);
    let sent = |line: &serde_json::Value| line["metrics"]["sent_mirror"].as_f64().unwrap();
    let sent: Vec<f64> = scene.lines("metrics.jsonl").iter().map(sent).collect();
    // The state goes with the first gradient, and again where a rank has begun afresh.
    assert!(
        sent[0] > 3.9 * sent[1] && sent[1] == sent[2] && sent[3] == sent[0] && sent[4] == sent[1],
        "{sent:?}"
    );
}

#[test]
fn slices_of_the_optimizer_that_die_with_a_worker_come_from_its_neighbour_and_no_step_is_repeated() {
    let _ = mirrored("optimizer", "update", 3);
}

/// Its neighbour has applied the step that it died before.
#[test]
fn slices_that_die_before_they_step_come_from_the_neighbour_that_has_stepped() {
    let _ = mirrored("hybrid", "commit", 4);
}

#[test]
fn slices_that_die_together_with_their_mirror_come_from_the_newest_checkpoint() {
    let faults = "{rank: 1, step: 4, phase: update, do: kill}, {rank: 2, step: 4, phase: update, do: kill}";
    let (_, said, voided) = survives("full", faults);
    assert!(said.contains("state came from checkpoint explore-step-2: step 3 is repeated"), "{said}");
    assert_eq!(voided, 1, "{said}");
}
