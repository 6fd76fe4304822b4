//! Runs that lose somebody and go on.

use std::fs;

use crate::support::Scenario;

/// Step numbers of the surviving commits, and how many samples they name, of how many different ones.
pub(crate) fn committed(scenario: &Scenario) -> (Vec<u64>, usize) {
    let journal = rusqlite::Connection::open(scenario.run_folder().join("journal.sqlite")).unwrap();
    let mut statement =
        journal.prepare("SELECT step, samples FROM steps WHERE voided = 0 ORDER BY step").unwrap();
    let rows: Vec<(u64, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let samples: Vec<String> =
        rows.iter().flat_map(|(_, text)| serde_json::from_str::<Vec<String>>(text).unwrap()).collect();
    (rows.iter().map(|(step, _)| *step).collect(), samples.len())
}

#[test]
fn a_worker_killed_once_is_started_again_gets_its_state_and_the_run_finishes() {
    let scenario = Scenario::new("{ name: explore, steps: 5, evaluation: { every: 0 } }");
    let mark = scenario.path("struck");
    let faults = [("FAKE_KILL_AT_STEP", "3"), ("FAKE_ONCE", mark.to_str().unwrap())];
    let ran = scenario.run(&[], &faults).expect(0);
    for word in [
        "step 3 is repeated: rank 1 on here was lost during update of step 3 (stage explore, 3 of 5)",
        "signal 9 (SIGKILL)",
        "state after step 2 came from rank 0: no step is repeated",
    ] {
        assert!(ran.stderr.contains(word), "{word} in:\n{}", ran.stderr);
    }
    assert_eq!(committed(&scenario), (vec![1, 2, 3, 4, 5], 20));
    assert!(scenario.read("logs/rank-1.attempt-1.log").contains("about to be killed"));
    assert!(scenario.read("logs/rank-1.attempt-2.log").contains("begins"));
}

#[test]
fn a_killed_coordinators_run_is_gone_on_with_and_nothing_is_done_twice() {
    let scenario = Scenario::new("{ name: explore, steps: 60, evaluation: { every: 0 } }");
    let quiet = ["--set", "checkpoint.every=10"];
    let running = scenario.start(&quiet, &[("FAKE_DELAY_MS", "5")]);
    running.wait_for_steps(13);
    running.signal(libc::SIGKILL);
    running.end();
    let said = scenario.run(&[quiet.as_slice(), &["--resume"]].concat(), &[]).expect(0).stderr;
    assert!(said.contains("goes on after step "), "{said}");
    assert!(said.contains("state came from checkpoint explore-step-"), "{said}");
    let (steps, _) = committed(&scenario);
    assert_eq!(steps, (1..=60).collect::<Vec<u64>>());
    let terms: Vec<_> = fs::read_dir(scenario.run_folder().join("terms")).unwrap().collect();
    assert_eq!(terms.len(), 2);
}

#[test]
fn an_interrupted_run_is_gone_on_with_from_where_it_stopped() {
    let scenario = Scenario::new("{ name: explore, steps: 40, evaluation: { every: 0 } }");
    let quiet = ["--set", "checkpoint.every=1000"];
    let running = scenario.start(&quiet, &[("FAKE_DELAY_MS", "10")]);
    running.wait_for_steps(3);
    running.signal(libc::SIGTERM);
    running.end().expect(0);
    let said = scenario.run(&[quiet.as_slice(), &["--resume"]].concat(), &[]).expect(0).stderr;
    assert!(said.contains("no step is repeated"), "{said}");
    assert_eq!(committed(&scenario).0, (1..=40).collect::<Vec<u64>>());
}

#[test]
fn a_run_is_not_gone_on_with_by_another_recipe_and_the_keys_are_named() {
    let scenario = Scenario::new("{ name: explore, steps: 3, evaluation: { every: 0 } }");
    scenario.run(&[], &[]).expect(0);
    let ran = scenario.run(&["--resume", "--set", "run.seed=6"], &[]).expect(2);
    assert!(ran.last_word().contains("run.seed (5 then, 6 now)"), "{}", ran.stderr);
    scenario.run(&["--resume", "--set", "recovery.lease=6"], &[]).expect(0);
}
