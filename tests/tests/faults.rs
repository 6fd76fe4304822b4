//! What stays when something dies: a clear word, everything that was done, and no process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::outside::Outside;
use tests::recovery::{assert_exactly_once, journal, steps, weights};
use tests::running::{status, wait_for, workers_of};
use tests::scene::{NO_EVALUATION, Scene};

/// Faults are for tests: without the flag nothing runs, and nothing is made.
#[test]
fn planned_faults_are_refused_unless_they_are_allowed() {
    let scene = Scene::prpo(4);
    let refused = scene.run(&["--set", "faults=[{rank: 1, step: 2, phase: update, do: kill}]"]).with(2);
    refused.says(&["1 faults", "--allow-faults"]);
    assert!(!scene.run_folder().exists());
}

/// A run of four steps in which something happens to the second worker in step 2: it finishes, with the weights of a
/// run to which nothing happened, bit for bit, and every sample counts once.
fn survives(phase: &str, action: &str, more: &[&str]) -> Scene {
    let scene = Scene::prpo(4);
    let expected = scene.undisturbed(2, &[]);
    let faults = format!("faults=[{{rank: 1, step: 2, phase: {phase}, do: {action}}}]");
    let arguments = [["--allow-faults", "--set", faults.as_str()].as_slice(), &NO_EVALUATION, more].concat();
    let ended = scene.run(&arguments).with(0);
    let left = workers_of(scene.read("address").trim());
    assert!(left.is_empty(), "workers outlived the run: {left:?}");
    let run = scene.run_folder();
    assert!(run.join("logs/fault-0.struck").exists(), "the fault did not strike:\n{}", ended.stderr);
    assert!(journal::<i64>(&run, "SELECT count(*) FROM epochs") >= 2, "no second epoch:\n{}", ended.stderr);
    assert_exactly_once(&run);
    assert!(ended.stderr.contains("s after the loss was seen"), "no time is told:\n{}", ended.stderr);
    assert_eq!(steps(&run).len(), 4);
    assert_eq!(weights(&run), expected, "other weights than without the fault");
    assert!(scene.read("report.html").ends_with("</html>\n"));
    scene
}

/// How often a try at a step was dropped, and the reason of the last.
fn discards(scene: &Scene) -> (i64, String) {
    let run = scene.run_folder();
    let reason = "SELECT coalesce((SELECT reason FROM discards ORDER BY id DESC LIMIT 1), '')";
    (journal(&run, "SELECT count(*) FROM discards WHERE step = 2"), journal(&run, reason))
}

#[test]
fn a_worker_killed_while_it_draws_responses_is_replaced_and_nothing_is_lost() {
    let (count, reason) = discards(&survives("rollout", "kill", &[]));
    assert_eq!(count, 1);
    assert!(reason.contains("rank 1 on here was lost during rollout of step 2"), "{reason}");
    assert!(reason.contains("signal 9 (SIGKILL)"), "{reason}");
}

#[test]
fn a_worker_killed_before_its_update_is_replaced_and_nothing_is_lost() {
    assert_eq!(discards(&survives("update", "kill", &[])).0, 1);
}

#[test]
fn a_worker_killed_after_its_backward_pass_is_replaced_and_nothing_is_lost() {
    assert_eq!(discards(&survives("backward", "kill", &[])).0, 1);
}

#[test]
fn a_worker_killed_while_gradients_are_summed_is_replaced_and_nothing_is_lost() {
    assert_eq!(discards(&survives("all_reduce", "kill", &[])).0, 1);
}

/// Whether the step was committed by then is a matter of milliseconds; either way it counts once.
#[test]
fn a_worker_killed_when_its_gradients_are_ready_is_replaced_and_nothing_is_lost() {
    let _ = survives("prepared", "kill", &[]);
}

/// Gradients were ready everywhere and the journal had the step: it is not done again.
#[test]
fn a_worker_killed_before_it_applies_a_step_takes_it_over_from_the_other() {
    assert_eq!(discards(&survives("commit", "kill", &[])).0, 0);
}

/// The first rank writes it.
#[test]
fn a_worker_killed_while_it_writes_a_checkpoint_leaves_no_half_of_one() {
    let scene = Scene::prpo(4);
    let fault = "faults=[{rank: 0, step: 2, phase: checkpoint, do: kill}]";
    let set = ["--allow-faults", "--set", fault, "--set", "checkpoint.every=2"];
    let _ = scene.run(&[set.as_slice(), &NO_EVALUATION].concat()).with(0);
    let run = scene.run_folder();
    assert!(run.join("logs/fault-0.struck").exists());
    assert_exactly_once(&run);
    for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        checkpoint::verify(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn a_worker_killed_while_the_world_forms_is_replaced() {
    let scene = Scene::prpo(2);
    let fault = "faults=[{rank: 1, step: 1, phase: forming, do: kill}]";
    let _ = scene.run(&[["--allow-faults", "--set", fault].as_slice(), &NO_EVALUATION].concat()).with(0);
    assert!(scene.run_folder().join("logs/fault-0.struck").exists());
    assert_exactly_once(&scene.run_folder());
}

#[test]
fn a_worker_that_ends_by_itself_is_replaced_and_nothing_is_lost() {
    let (_, reason) = discards(&survives("update", "exit", &[]));
    assert!(reason.contains("exit code 3"), "{reason}");
}

/// No heartbeat comes; the process still exists.
#[test]
fn a_worker_that_is_stopped_is_replaced_when_its_lease_is_over() {
    let (_, reason) = discards(&survives("all_reduce", "stop", &["--set", "recovery.lease=4"]));
    assert!(reason.contains("was silent for"), "{reason}");
}

/// Heartbeats come; nothing advances.
#[test]
fn a_worker_whose_work_hangs_is_replaced_when_its_progress_is_overdue() {
    let (_, reason) = discards(&survives("rollout", "hang", &["--set", "recovery.progress=5"]));
    assert!(reason.contains("made no progress for"), "{reason}");
}

/// Workers that are not its children keep the run's state in memory, and the journal has the rest.
#[test]
fn a_killed_coordinator_goes_on_with_the_workers_that_are_still_there_and_repeats_no_step() {
    let scene = Scene::prpo(40);
    let expected = scene.undisturbed(2, &[]);
    scene.hosts("external", 2, "127.0.0.1:0");
    let running = scene.begin(&NO_EVALUATION);
    let _ = running.address();
    let workers = Outside::start(&scene, &scene.run_folder(), 2);
    running.wait_for_steps(5);
    running.signal("KILL");
    assert_eq!(running.end().code, None);
    let ended = scene.run(&[["--resume"].as_slice(), &NO_EVALUATION].concat()).with(0);
    assert_eq!(workers.ends(), [Some(0), Some(0)]);
    let run = scene.run_folder();
    assert_eq!(journal::<i64>(&run, "SELECT count(*) FROM steps WHERE voided = 1"), 0, "{}", ended.stderr);
    assert_eq!(journal::<i64>(&run, "SELECT count(*) FROM restorations"), 0, "{}", ended.stderr);
    assert_eq!(journal::<i64>(&run, "SELECT max(term) FROM terms"), 2);
    assert_eq!(steps(&run).len(), 40);
    assert_exactly_once(&run);
    assert_eq!(weights(&run), expected);
}

/// Its children die with it: the state comes from the newest checkpoint, and the steps since are done again, with the
/// rollouts that the journal has.
#[test]
fn a_killed_coordinators_run_is_taken_up_from_its_checkpoint_with_the_same_weights() {
    let scene = Scene::prpo(12);
    let set = ["--set", "checkpoint.every=4"];
    let expected = scene.undisturbed(2, &set);
    let arguments = [set.as_slice(), &NO_EVALUATION].concat();
    let running = scene.begin(&arguments);
    running.wait_for_steps(6);
    running.signal("KILL");
    let _ = running.end();
    let ended = scene.run(&[["--resume"].as_slice(), &arguments].concat()).with(0);
    assert!(ended.stderr.contains("state came from checkpoint explore-step-"), "{}", ended.stderr);
    let run = scene.run_folder();
    assert_eq!(steps(&run).len(), 12);
    assert_exactly_once(&run);
    assert_eq!(weights(&run), expected);
}

/// A rank's part of the optimizer is gone with it: the newest checkpoint has it, and the commits since are voided.
#[test]
fn sharded_state_that_dies_with_a_worker_comes_from_the_newest_checkpoint() {
    let scene = Scene::prpo(5);
    let set = ["--set", "parallel.sharding=full", "--set", "checkpoint.every=2"];
    let expected = scene.undisturbed(2, &set);
    let fault = "faults=[{rank: 1, step: 4, phase: backward, do: kill}]";
    let arguments = [["--allow-faults", "--set", fault].as_slice(), &set, &NO_EVALUATION].concat();
    let ended = scene.run(&arguments).with(0);
    let said = "state came from checkpoint explore-step-2: step 3 is repeated";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    let run = scene.run_folder();
    assert_eq!(journal::<i64>(&run, "SELECT count(*) FROM steps WHERE voided = 1"), 1);
    assert_eq!(steps(&run).len(), 5);
    assert_eq!(weights(&run), expected);
}

/// Two of three go on, and the third comes back into a world that has moved on.
#[test]
fn a_world_shrinks_when_a_worker_does_not_come_back_and_grows_when_it_does() {
    let scene = Scene::prpo(60);
    scene.hosts("external", 3, "127.0.0.1:0");
    let set = ["--set", "recovery.min_world=2", "--set", "recovery.restart_grace=1"];
    let running = scene.begin(&[set.as_slice(), &NO_EVALUATION].concat());
    let _ = running.address();
    let mut workers = Outside::start(&scene, &scene.run_folder(), 3);
    running.wait_for_steps(2);
    workers.kill(2);
    let run = scene.run_folder();
    let active = || {
        let status = status(&run);
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let active = members.iter().filter(|member| member["state"] == "active").count();
        (status["epoch"].as_u64().unwrap_or(0), active)
    };
    wait_for("a world of two", || (active() == (2, 2)).then_some(()));
    running.wait_for_steps(scene.lines("metrics.jsonl").len() + 2);
    workers.restart(2);
    wait_for("a world of three", || (active() == (3, 3)).then_some(()));
    let _ = running.end().with(0);
    assert_eq!(workers.ends(), [Some(0); 3]);
    let sizes: Vec<usize> = steps(&run).iter().map(|step| step.members.len()).collect();
    assert_eq!(sizes.len(), 60);
    assert!(sizes.contains(&2) && sizes.last() == Some(&3), "{sizes:?}");
    assert_exactly_once(&run);
}

#[test]
fn a_terminated_coordinator_ends_its_workers_and_leaves_a_checkpoint() {
    let scene = Scene::prpo(100_000);
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
    let scene = Scene::prpo(100_000);
    let running = scene.begin(&NO_EVALUATION);
    running.wait_for_steps(1);
    let address = running.address();
    assert_eq!(workers_of(&address).len(), 2);
    running.signal("KILL");
    assert_eq!(running.end().code, None);
    wait_for("the workers' end", || workers_of(&address).is_empty().then_some(()));
}
