//! What stays when something dies: a clear word, everything that was done, and no process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use tests::recovery::{assert_exactly_once, journal, steps, weights};
use tests::running::{wait_for, workers_of};
use tests::scene::{NO_EVALUATION, Scene, Start};

fn scene(steps: u32) -> Scene {
    Scene::new(Start::Fresh, &format!("{{ name: explore, kind: prpo, steps: {steps} }}"))
}

/// Faults are for tests: without the flag nothing runs, and nothing is made.
#[test]
fn planned_faults_are_refused_unless_they_are_allowed() {
    let scene = scene(4);
    let refused = scene.run(&["--set", "faults=[{rank: 1, step: 2, phase: update, do: kill}]"]).with(2);
    refused.says(&["1 faults", "--allow-faults"]);
    assert!(!scene.run_folder().exists());
}

/// A run of four steps in which something happens to the second worker in step 2: it finishes, with the weights of a
/// run to which nothing happened, bit for bit, and every sample counts once.
fn survives(phase: &str, action: &str, more: &[&str]) -> Scene {
    let scene = scene(4);
    let undisturbed = scene.text("undisturbed");
    let _ = scene.run(&[["--output", undisturbed.as_str()].as_slice(), &NO_EVALUATION].concat()).with(0);
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
    assert_eq!(weights(&run), weights(Path::new(&undisturbed)), "other weights than without the fault");
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
    let scene = scene(4);
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
    let scene = scene(2);
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

/// What an undisturbed run of the scene ends with.
fn undisturbed(scene: &Scene, more: &[&str]) -> std::collections::BTreeMap<String, String> {
    let folder = scene.text("undisturbed");
    let _ = scene.run(&[["--output", folder.as_str()].as_slice(), &NO_EVALUATION, more].concat()).with(0);
    weights(Path::new(&folder))
}

/// Workers that somebody else started; killed when dropped.
struct Outside(Vec<std::process::Child>);

impl Outside {
    fn start(scene: &Scene, ranks: u32) -> Self {
        let address = scene.run_folder().join("address");
        let worker = |rank: u32| {
            let mut command = std::process::Command::new(tests::program("worker"));
            command.args(["--rank", &rank.to_string(), "--threads", "1", "--host", "here", "--coordinator"]);
            command.arg(&address).env("OMP_NUM_THREADS", "1").spawn().unwrap()
        };
        Self((0..ranks).map(worker).collect())
    }

    /// The exit codes, once all have ended.
    fn ends(mut self) -> Vec<Option<i32>> {
        self.0.iter_mut().map(|worker| worker.wait().unwrap().code()).collect()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // It fails only where it has ended.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// Workers that are not its children keep the run's state in memory, and the journal has the rest.
#[test]
fn a_killed_coordinator_goes_on_with_the_workers_that_are_still_there_and_repeats_no_step() {
    let scene = scene(40);
    let expected = undisturbed(&scene, &[]);
    scene.hosts("external", 2, "127.0.0.1:0");
    let running = scene.begin(&NO_EVALUATION);
    let _ = running.address();
    let workers = Outside::start(&scene, 2);
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
    let scene = scene(12);
    let set = ["--set", "checkpoint.every=4"];
    let expected = undisturbed(&scene, &set);
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
    let scene = scene(5);
    let set = ["--set", "parallel.sharding=full", "--set", "checkpoint.every=2"];
    let expected = undisturbed(&scene, &set);
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
    let scene = scene(60);
    scene.hosts("external", 3, "127.0.0.1:0");
    let set = ["--set", "recovery.min_world=2", "--set", "recovery.restart_grace=1"];
    let running = scene.begin(&[set.as_slice(), &NO_EVALUATION].concat());
    let _ = running.address();
    let mut workers = Outside::start(&scene, 3);
    running.wait_for_steps(2);
    let mut third = workers.0.pop().unwrap();
    third.kill().unwrap();
    third.wait().unwrap();
    let run = scene.run_folder();
    let active = || {
        let arguments = ["status", "--json", "--output", run.to_str().unwrap()];
        let answer =
            std::process::Command::new(tests::program("coordinator")).args(arguments).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let active = members.iter().filter(|member| member["state"] == "active").count();
        (status["epoch"].as_u64().unwrap_or(0), active)
    };
    wait_for("a world of two", || (active() == (2, 2)).then_some(()));
    running.wait_for_steps(scene.lines("metrics.jsonl").len() + 2);
    let mut again = std::process::Command::new(tests::program("worker"));
    again.args(["--rank", "2", "--threads", "1", "--host", "here", "--coordinator"]);
    workers.0.push(again.arg(run.join("address")).env("OMP_NUM_THREADS", "1").spawn().unwrap());
    wait_for("a world of three", || (active() == (3, 3)).then_some(()));
    let _ = running.end().with(0);
    assert_eq!(workers.ends(), [Some(0); 3]);
    let sizes: Vec<usize> = steps(&run).iter().map(|step| step.members.len()).collect();
    assert_eq!(sizes.len(), 60);
    assert!(sizes.contains(&2) && sizes.last() == Some(&3), "{sizes:?}");
    assert_exactly_once(&run);
}

/// Days pass and come back in a moment, for the coordinator and its workers; what they measure time by does not jump.
#[test]
fn a_clock_that_is_set_forward_and_back_changes_nothing() {
    let scene = scene(30);
    let expected = undisturbed(&scene, &[]);
    let offset = scene.path("offset");
    let set_clock = |to: &str| std::fs::write(&offset, to).unwrap();
    set_clock("+0d");
    let mut command = scene.coordinator(&NO_EVALUATION);
    // libfaketime, of Debian's faketime; monotonic clocks are left alone, as settimeofday(2) leaves them.
    command.env("LD_PRELOAD", fake_clock()).env("FAKETIME_TIMESTAMP_FILE", &offset);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    let run = scene.run_folder();
    let running = tests::running::Running::start(command, &run);
    running.wait_for_steps(5);
    set_clock("+3d");
    running.wait_for_steps(12);
    set_clock("-400d");
    let ended = running.end().with(0);
    let jumped: f64 = journal(&run, "SELECT max(at) - min(at) FROM steps");
    assert!(jumped > 402.0 * 86_400.0, "the clock was not set: {jumped} s");
    assert_eq!(journal::<i64>(&run, "SELECT count(*) FROM epochs"), 1, "{}", ended.stderr);
    assert_eq!(steps(&run).len(), 30);
    assert_exactly_once(&run);
    assert_eq!(weights(&run), expected);
}

/// The library that `setup.sh test` installs.
fn fake_clock() -> std::path::PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let mut found = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("Debian's package faketime: deploy/setup/setup.sh test")
}

/// What could not be written is told; what was written stays.
#[test]
fn a_full_disk_stops_the_run_with_a_word_and_it_goes_on_when_there_is_room() {
    let scene = scene(30);
    let set = ["--set", "checkpoint.every=10"];
    let expected = undisturbed(&scene, &set);
    let small = scene.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = |arguments: &[&str]| {
        assert!(std::process::Command::new("mount").args(arguments).status().unwrap().success(), "mount");
    };
    mount(&["-t", "tmpfs", "-o", "size=256m", "tmpfs", small.to_str().unwrap()]);
    let unmount = Unmount(small.clone());
    let output = small.join("run");
    let arguments = [["--output", output.to_str().unwrap()].as_slice(), &set, &NO_EVALUATION].concat();
    let running = tests::running::Running::start(scene.coordinator(&arguments), &output);
    // The run is to go on from its first checkpoint.
    running.wait_for_steps(11);
    // What is left of the room.
    let filled = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=64k", &format!("of={}", small.join("filler").display())])
        .output()
        .unwrap();
    assert!(!filled.status.success(), "the disk is full");
    let ended = running.end().with(1);
    assert!(ended.stderr.contains("is the disk full?"), "{}", ended.stderr);
    std::fs::remove_file(small.join("filler")).unwrap();
    let resumed = [["--resume"].as_slice(), &arguments].concat();
    let running = tests::running::Running::start(scene.coordinator(&resumed), &output);
    let _ = running.end().with(0);
    let samples = |run: &Path| steps(run).into_iter().map(|step| step.samples).collect::<Vec<_>>();
    assert_eq!(samples(&output).len(), 30);
    assert_eq!(samples(&output), samples(&scene.path("undisturbed")));
    assert_exactly_once(&output);
    assert_eq!(weights(&output), expected);
    drop(unmount);
}

/// Takes a file system away again.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
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
