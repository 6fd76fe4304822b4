//! Runs that end before their end.

use std::io::Write as _;

use crate::light::{Faults, serve};
use crate::support::{Scenario, connect, lives, pids, wait_for};

#[test]
fn a_worker_that_is_killed_in_a_step_again_and_again_ends_the_run_with_rank_phase_step_signal_and_log() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let folder = scenario.path("");
    let faults = [("FAKE_KILL_AT_STEP", "3"), ("FAKE_FOLDER", folder.to_str().unwrap())];
    let ran = scenario.run(&["--set", "recovery.max_discards=2"], &faults).expect(1);
    for word in [
        "recovery.max_discards is 2",
        "rank 1 on here was lost during update of step 3 (stage explore, 3 of 5)",
        "signal 9 (SIGKILL)",
        "| about to be killed",
        "everything up to step 2 is in",
    ] {
        assert!(ran.stderr.contains(word), "{word} in:\n{}", ran.stderr);
    }
    assert_eq!(scenario.read("metrics.jsonl").lines().count(), 2);
    checkpoint::verify(&scenario.run_folder().join("checkpoints/latest")).unwrap();
    assert!(!scenario.read("report.html").is_empty());
    assert!(pids(&scenario.path("")).into_iter().all(|pid| !lives(pid)), "a worker outlived the run");
}

#[test]
fn an_interrupted_run_keeps_its_steps_and_exits_with_0() {
    let scenario = Scenario::new("{ name: explore, steps: 1000, evaluation: { every: 0 } }");
    let running = scenario.start(&["--set", "checkpoint.every=1000"], &[("FAKE_DELAY_MS", "20")]);
    running.wait_for_steps(2);
    running.signal(libc::SIGINT);
    let ran = running.end().expect(0);
    assert!(ran.stdout.contains("stopped as asked: everything up to step"), "{}", ran.stdout);
    let manifest = checkpoint::verify(&scenario.run_folder().join("checkpoints/latest")).unwrap();
    let steps = scenario.read("metrics.jsonl").lines().count();
    assert_eq!(manifest.about["step"], steps.to_string());
    assert!(ran.stdout.contains(&format!("explore-step-{steps}")), "{}", ran.stdout);
}

#[test]
fn a_second_signal_ends_the_run_at_once_and_its_workers_with_it() {
    let scenario = Scenario::new("{ name: explore, steps: 1000 }");
    let folder = scenario.path("");
    let running =
        scenario.start(&[], &[("FAKE_DELAY_MS", "5000"), ("FAKE_FOLDER", folder.to_str().unwrap())]);
    let workers = pids(&folder);
    running.wait_for_word("forming");
    running.signal(libc::SIGTERM);
    running.wait_for_word("a second signal stops at once");
    running.signal(libc::SIGTERM);
    let ran = running.end().expect(1);
    assert!(ran.last_word().contains("stopped at once by a second signal"), "{}", ran.stderr);
    assert!(workers.into_iter().all(|pid| !lives(pid)));
}

#[test]
fn workers_die_with_a_killed_coordinator() {
    let scenario = Scenario::new("{ name: explore, steps: 1000 }");
    let folder = scenario.path("");
    let running = scenario.start(&[], &[("FAKE_DELAY_MS", "20"), ("FAKE_FOLDER", folder.to_str().unwrap())]);
    running.wait_for_steps(1);
    let workers = pids(&folder);
    running.signal(libc::SIGKILL);
    for pid in workers {
        wait_for("a worker's end", || (!lives(pid)).then_some(()));
    }
}

#[test]
fn a_picture_that_a_worker_cannot_read_is_wrong_input() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let ran = scenario.run(&[], &[("FAKE_UNREADABLE_AT_STEP", "2")]).expect(2);
    let word = ran.last_word();
    assert!(
        word.contains("pictures/x.png: not a picture; expected PNG or JPEG") && word.contains("sample"),
        "{word}"
    );
}

#[test]
fn strangers_on_the_port_do_not_disturb_the_run_and_a_second_rank_0_is_refused() {
    let scenario = Scenario::new("{ name: explore, steps: 3 }");
    scenario.hosts("external", "127.0.0.1:0");
    let running = scenario.start(&[], &[]);
    let address = running.address();
    let mut strangers: Vec<_> = (0..20).map(|_| connect(&address)).collect();
    for (i, stranger) in strangers.iter_mut().enumerate() {
        let _ = stranger.write_all(&vec![i as u8; 1000 * i]);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let first = tokio::spawn({
            let address = address.clone();
            async move { serve(0, &address, Faults::default()).await }
        });
        // Whichever of the two is second is turned away, and the other stays.
        let second = tokio::spawn({
            let address = address.clone();
            async move { serve(0, &address, Faults::default()).await }
        });
        let (outcome, stays) = {
            let (mut first, mut second) = (first, second);
            tokio::select! {
                refused = &mut first => (refused.unwrap(), second),
                refused = &mut second => (refused.unwrap(), first),
            }
        };
        let reason = outcome.unwrap_err();
        assert!(reason.starts_with("rank 0 is taken by process"), "{reason}");
        let outside = serve(7, &address, Faults::default()).await.unwrap_err();
        assert!(outside.contains("rank 7 is out of range"), "{outside}");
        serve(1, &address, Faults::default()).await.unwrap();
        stays.await.unwrap().unwrap();
    });
    let ran = running.end().expect(0);
    assert!(ran.stderr.contains("worker --rank 1 --coordinator"), "{}", ran.stderr);
}
