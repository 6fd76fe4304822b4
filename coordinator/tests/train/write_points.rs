//! A coordinator that is killed at one of its writes, whichever: the run is gone on with, and every step counts once.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::recovers::committed;
use crate::support::Scenario;

/// The system calls by which a file comes, changes or goes, and by which anything is said.
const WRITES: &str = "mkdir,symlink,rename,unlink,ftruncate,write,pwrite64,fsync";
/// Of all writes each so-manieth; all of them in the full matrix of faults.
const EACH: usize = if cfg!(feature = "fault-matrix") { 1 } else { 43 };
const STEPS: u64 = 3;

fn scenario() -> Scenario {
    Scenario::new(&format!("{{ name: explore, steps: {STEPS} }}"))
}

/// The coordinator's first thread, which alone keeps the journal, under strace(1) with `options`.
fn traced(scenario: &Scenario, options: &[&str]) {
    let coordinator = scenario.command(&[], &[]);
    let mut command = Command::new("strace");
    command.args(["--quiet=all", "--output", scenario.path("trace").to_str().unwrap()]).args(options);
    command.arg(coordinator.get_program()).args(coordinator.get_args()).env_remove("FAKE_WORKER");
    let said = command.output().unwrap_or_else(|e| panic!("strace, Debian's package of that name: {e}"));
    assert!(!String::from_utf8_lossy(&said.stderr).contains("strace: "), "{said:?}");
}

/// How often an undisturbed run makes each call.
fn counts() -> BTreeMap<String, usize> {
    let scenario = scenario();
    traced(&scenario, &["--trace", WRITES]);
    assert_eq!(committed(&scenario).0.len() as u64, STEPS);
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(scenario.path("trace")).unwrap().lines() {
        if let Some((call, _)) = line.split_once('(') {
            *counts.entry(call.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn a_coordinator_killed_at_any_write_loses_nothing_and_repeats_nothing() {
    let counts = counts();
    for call in ["rename", "write", "pwrite64", "fsync"] {
        assert!(counts.contains_key(call), "{call} is not among {counts:?}");
    }
    let all = counts.iter().flat_map(|(call, count)| (1..=*count).map(move |n| (call, n)));
    let mut struck = 0;
    for (call, n) in all.step_by(EACH) {
        let scenario = scenario();
        traced(&scenario, &["--inject", &format!("{call}:signal=KILL:when={n}")]);
        struck +=
            usize::from(fs::read_to_string(scenario.path("trace")).unwrap().contains("killed by SIGKILL"));
        let ran = scenario.run(&["--resume"], &[]);
        assert_eq!(ran.code, Some(0), "after {call} {n}:\n{}", ran.stderr);
        let (steps, samples) = committed(&scenario);
        assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>(), "after {call} {n}:\n{}", ran.stderr);
        assert_eq!(samples as u64, 4 * STEPS, "after {call} {n}");
        assert!(scenario.run_folder().join("report.html").exists(), "after {call} {n}");
    }
    // The last of a call may not come where two runs differ in what they say.
    assert!(struck > 5, "{struck}");
}

/// Its disk takes longer over one write than a term lasts that nobody renews.
#[test]
fn a_coordinator_that_is_held_up_in_a_write_keeps_its_term() {
    let scenario = scenario();
    let began = Instant::now();
    traced(&scenario, &["--trace", "fsync", "--inject", "fsync:delay_enter=9000000:when=12"]);
    assert!(began.elapsed() > Duration::from_secs(9), "there was no such write");
    assert_eq!(committed(&scenario).0.len() as u64, STEPS);
    assert!(scenario.run_folder().join("report.html").exists());
}
