//! A worker that dies, ends, hangs, or stands still until its launcher kills it, under every sharding.

use tests::moments::Moment;
use tests::trial::Trial;

/// `action` at each moment.
fn survives_everywhere(sharding: &str, workers: u32, action: &str, more: &[&str]) {
    let sharding = format!("parallel.sharding={sharding}");
    let set = [&sharding, "checkpoint.every=1", "recovery.lease=4", "recovery.progress=5"];
    let trial = Trial::new("local", workers, &[set.as_slice(), more].concat());
    for moment in Moment::ALL {
        let at = format!("{action} at {moment:?}, {workers} workers, {sharding}");
        trial.begin(moment, action).finishes(&at).leaves_nothing();
    }
}

#[test]
fn killed_workers_of_two_that_hold_everything() {
    survives_everywhere("replicate", 2, "kill", &[]);
}

#[test]
fn killed_workers_of_four_that_hold_everything() {
    survives_everywhere("replicate", 4, "kill", &[]);
}

#[test]
fn killed_workers_of_two_whose_optimizer_is_cut() {
    survives_everywhere("optimizer", 2, "kill", &[]);
}

#[test]
fn killed_workers_of_three_whose_weights_are_cut() {
    survives_everywhere("full", 3, "kill", &[]);
}

#[test]
fn killed_workers_of_three_whose_slices_have_mirrors() {
    survives_everywhere("full", 3, "kill", &["recovery.redundancy=neighbour"]);
}

#[test]
fn killed_workers_of_two_on_one_node_whose_weights_are_cut() {
    survives_everywhere("hybrid", 2, "kill", &[]);
}

#[test]
fn workers_of_two_that_end_by_themselves() {
    survives_everywhere("replicate", 2, "exit", &[]);
}

#[test]
fn stopped_workers_of_two() {
    survives_everywhere("replicate", 2, "stop", &[]);
}

#[test]
fn stopped_workers_of_three_whose_weights_are_cut() {
    survives_everywhere("full", 3, "stop", &[]);
}

#[test]
fn workers_of_two_whose_work_hangs() {
    // The first world that does not form costs the wrong worker its place, if all say the same of themselves.
    survives_everywhere("replicate", 2, "hang", &["recovery.forming=8"]);
}
