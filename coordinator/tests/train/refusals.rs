//! Wrong input: one line with what, where, expected and the way out, exit code 2, nothing half-written.

use std::fs;
use std::net::TcpListener;

use crate::support::{Ran, Scenario};

/// One line on stderr that says all of `words`.
fn expect_line(ran: Ran, code: i32, words: &[&str]) {
    let ran = ran.expect(code);
    let word = ran.last_word();
    for expected in words {
        assert!(word.contains(expected), "{expected:?} in {word:?}");
    }
    let said: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(said.last(), Some(&word), "nothing follows the one line");
}

fn nothing_written(scenario: &Scenario) {
    assert!(!scenario.run_folder().exists(), "the run folder was made");
}

#[test]
fn a_port_in_use_is_told_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    scenario.hosts("local", &address);
    expect_line(scenario.run(&[], &[]), 2, &[&address, "the port is in use", "or port 0"]);
    nothing_written(&scenario);
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one() {
    let scenario = Scenario::new("{ name: explore, steps: 5, optimiser: { lr: 1 } }");
    expect_line(scenario.run(&[], &[]), 2, &["recipe.yaml:", "\"optimiser\"", "\"optimizer\""]);
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let hosts = fs::read_to_string(scenario.path("hosts.yaml")).unwrap().replace("threads", "thread");
    fs::write(scenario.path("hosts.yaml"), hosts).unwrap();
    expect_line(scenario.run(&[], &[]), 2, &["hosts.yaml:", "\"thread\"", "\"threads\""]);
    nothing_written(&scenario);
}

#[test]
fn a_broken_line_of_a_label_file_and_a_missing_picture_are_told_with_their_place() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let labels = fs::read_to_string(scenario.path("train.jsonl")).unwrap();
    fs::write(scenario.path("train.jsonl"), labels.replacen("\"conversations\"", "\"talk\"", 3)).unwrap();
    expect_line(scenario.run(&[], &[]), 2, &["train.jsonl:1", "conversations"]);
    fs::write(scenario.path("train.jsonl"), labels).unwrap();
    fs::remove_file(scenario.path("pictures/train_11_02.c1.png")).unwrap();
    expect_line(scenario.run(&[], &[]), 2, &["train_11_02.c1.png is no file"]);
    nothing_written(&scenario);
}

#[test]
fn a_worker_of_another_version_ends_the_run_with_both_versions_and_its_folder_can_be_used_again() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let words = [
        "was refused: worker version \"0.0.1\" differs from the coordinator's",
        "build both from the same source",
    ];
    expect_line(scenario.run(&[], &[("FAKE_VERSION", "0.0.1")]), 2, &words);
    scenario.run(&[], &[]).expect(0);
}

#[test]
fn a_missing_worker_program_is_told_before_anything_is_written() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    fs::remove_file(scenario.path("bin/worker")).unwrap();
    let ran = scenario.run(&[], &[("PATH", "/nonexistent")]);
    expect_line(ran, 2, &["no program \"worker\" beside the coordinator", "make build"]);
    nothing_written(&scenario);
}

#[test]
fn planned_faults_are_refused_with_what_to_do() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let faults = "faults=[{rank: 0, step: 1, phase: update, do: kill}]";
    expect_line(scenario.run(&["--set", faults], &[]), 2, &["1 faults", "--allow-faults"]);
    nothing_written(&scenario);
}

#[test]
fn a_finished_runs_folder_is_refused_and_a_running_ones_too() {
    let scenario = Scenario::new("{ name: explore, steps: 1 }");
    scenario.run(&[], &[]).expect(0);
    let report = scenario.read("report.html");
    expect_line(
        scenario.run(&[], &[]),
        2,
        &["holds a run already (finished, 1 steps", "give --resume", "another --output"],
    );
    assert_eq!(scenario.read("report.html"), report);

    let scenario = Scenario::new("{ name: explore, steps: 1000 }");
    let running = scenario.start(&[], &[("FAKE_DELAY_MS", "20")]);
    running.wait_for_steps(1);
    let address = running.address();
    expect_line(scenario.run(&[], &[]), 75, &["another coordinator holds it (process", &address]);
}
