//! Runs whose guards are up: a worker that dies comes back with what it has to show.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::moments::Moment;
use tests::trial::Trial;
use tests::{succeed, text};

/// A worker of two is killed, and the coordinator starts another in its place.
fn a_killed_worker_comes_back(trial: &Trial, guard: &str, shown: [&str; 2]) {
    trial.scene.hosts_also(&format!("security: {guard}"));
    let mut attempt = trial.begin(Moment::Backward, "wait");
    attempt.comes_to(0);
    // Who shows nothing learns nothing.
    assert!(attempt.status().is_null());
    let ask = [["status", "--json"], ["--output", text(attempt.folder())], shown].concat();
    assert!(succeed("coordinator", &ask).contains("\"running\""));
    attempt.let_go(0);
    attempt.finishes(guard).leaves_nothing();
    let finished = trial.begin(Moment::Backward, "kill").finishes(guard);
    finished.leaves_nothing();
    assert_eq!((finished.count("epochs"), finished.count("discards")), (2, 1), "{}", finished.said);
    assert!(finished.said.contains("signal 9 (SIGKILL)"), "{}", finished.said);
}

#[test]
fn a_killed_worker_comes_back_with_its_certificate() {
    let trial = Trial::new("local", 2, &[]);
    let (hosts, folder) = (trial.scene.path("hosts.yaml"), trial.scene.path("certificates"));
    let _ = succeed("coordinator", &["certificates", "--nodes", text(&hosts), "--output", text(&folder)]);
    let guard = format!("{{ certificates: {} }}", folder.display());
    a_killed_worker_comes_back(&trial, &guard, ["--certificates", text(&folder)]);
}

#[test]
fn a_killed_worker_comes_back_with_the_join_token() {
    let trial = Trial::new("local", 2, &[]);
    let token = trial.scene.path("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let guard = format!("{{ token_file: {} }}", token.display());
    a_killed_worker_comes_back(&trial, &guard, ["--token-file", text(&token)]);
}
