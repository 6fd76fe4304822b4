//! What stays when something dies: a clear word, everything that was done, and no process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::running::{Ended, wait_for, workers_of};
use tests::scene::{NO_EVALUATION, Scene, Start};

fn scene(steps: u32) -> Scene {
    Scene::new(Start::Fresh, &format!("{{ name: explore, kind: prpo, steps: {steps} }}"))
}

/// A run whose second worker kills itself in step 2, and how it ended.
fn killed_in(phase: &str) -> (Scene, Ended) {
    let scene = scene(4);
    let faults = format!("faults=[{{rank: 1, step: 2, phase: {phase}, do: kill}}]");
    let arguments = ["--set", faults.as_str()];
    let refused = scene.run(&[arguments.as_slice(), &NO_EVALUATION].concat()).with(2);
    refused.says(&["1 faults", "--allow-faults"]);
    assert!(!scene.run_folder().exists());
    let arguments = [arguments.as_slice(), &["--allow-faults"], &NO_EVALUATION].concat();
    let ended = scene.run(&arguments).with(1);
    let left = workers_of(scene.read("address").trim());
    assert!(left.is_empty(), "workers outlived the run: {left:?}");
    (scene, ended)
}

fn told_and_kept(phase: &str, committed: i64) {
    let (scene, ended) = killed_in(phase);
    let words = [
        "coordinator: rank 1 on here was lost during ",
        &format!("{phase} of step 2 "),
        "signal 9 (SIGKILL)",
    ];
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in:\n{}", ended.stderr);
    }
    assert!(ended.stderr.contains(&format!("everything up to step {committed} is in ")), "{}", ended.stderr);
    assert_eq!(scene.lines("metrics.jsonl").len() as i64, committed);
    let journal = rusqlite::Connection::open(scene.run_folder().join("journal.sqlite")).unwrap();
    let steps = journal.query_row("SELECT count(*) FROM steps", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(steps, committed);
    assert!(scene.read("report.html").ends_with("</html>\n"));
}

#[test]
fn a_worker_killed_while_it_draws_responses_is_named_and_the_step_before_stays() {
    told_and_kept("rollout", 1);
}

#[test]
fn a_worker_killed_before_gradients_are_reduced_is_named_and_the_step_before_stays() {
    told_and_kept("update", 1);
}

/// Its gradients were ready everywhere and the journal had the step: it counts.
#[test]
fn a_worker_killed_before_it_applies_a_step_is_named_and_the_step_is_recorded() {
    told_and_kept("commit", 2);
}

#[test]
fn a_terminated_coordinator_ends_its_workers_and_leaves_a_checkpoint() {
    let scene = scene(100_000);
    let running = scene.begin(&NO_EVALUATION);
    running.wait_for_steps(1);
    let address = running.address();
    assert_eq!(workers_of(&address).len(), 2);
    running.signal("TERM");
    let ended = running.end().with(0);
    assert!(ended.stdout.contains("stopped as asked: everything up to step"), "{}", ended.stdout);
    assert!(workers_of(&address).is_empty());
    let steps = scene.lines("metrics.jsonl").len();
    let manifest = checkpoint::verify(&scene.run_folder().join("checkpoints/latest")).unwrap();
    assert_eq!(manifest.about["step"], steps.to_string());
}

#[test]
fn workers_die_with_a_killed_coordinator() {
    let scene = scene(100_000);
    let running = scene.begin(&NO_EVALUATION);
    running.wait_for_steps(1);
    let address = running.address();
    assert_eq!(workers_of(&address).len(), 2);
    running.signal("KILL");
    assert_eq!(running.end().code, None);
    wait_for("the workers' end", || workers_of(&address).is_empty().then_some(()));
}
