//! A clock that is set.

use std::path::PathBuf;

use tests::moments::Moment;
use tests::trial::Trial;

use crate::planned;

const DAY: f64 = 86_400.0;

/// Days pass and come back in a moment, for the coordinator and its workers; what they measure time by does not jump.
#[test]
fn a_clock_that_is_set_forward_and_back_changes_nothing() {
    let moments = planned(Moment::FIRST, &[Moment::Backward]);
    let trial = Trial::new("local", 2, &["checkpoint.every=1"]);
    let offset = trial.scene.path("offset");
    let set_clock = |to: &str| std::fs::write(&offset, to).unwrap();
    set_clock("+0d");
    // Monotonic clocks are left alone, as settimeofday(2) leaves them.
    let library = fake_clock();
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    let faults = Moment::faults_at(moments, 2, "wait");
    let mut attempt = trial.start_in(&trial.scene.path("jumps"), faults, &environment);
    for place in 0..moments.len() {
        attempt.comes_to(place);
        set_clock(if place % 2 == 0 { "+3d" } else { "-400d" });
        attempt.let_go(place);
    }
    let finished = attempt.finishes("a clock that is set");
    finished.leaves_nothing();
    let jumped = finished.spread("records");
    let expected = if moments.len() > 1 { 402.0 } else { 2.0 };
    assert!(jumped > expected * DAY, "the clock was not set: {jumped} s");
    assert_eq!((finished.count("epochs"), finished.count("discards")), (1, 0), "{}", finished.said);
}

/// libfaketime, of Debian's package faketime.
fn fake_clock() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let mut found = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("Debian's package faketime: deploy/setup/setup.sh test")
}
