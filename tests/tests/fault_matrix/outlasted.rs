//! A worker that stands still for longer than its lease, and goes on when it is lost (SIGSTOP, then SIGCONT).

use tests::moments::Moment;
use tests::outside::Outside;
use tests::trial::{Attempt, Trial, stop};

use crate::planned;
use crate::stopped::is;

const LONG: [&str; 3] = ["recovery.lease=2", "checkpoint.every=1", "recovery.coordinator_grace=4"];

/// A run whose workers somebody else starts, at the moment that is planned.
fn begin(trial: &Trial, moment: Moment) -> (Attempt<'_>, Outside) {
    let mut attempt = trial.begin(moment, "wait");
    let mut outside = attempt.outside();
    if moment == Moment::FormingAgain {
        // The one that the plan kills.
        outside.restart(1);
    }
    attempt.comes_to(0);
    (attempt, outside)
}

#[test]
fn a_worker_that_stands_still_for_longer_than_its_lease_comes_back_with_its_tensors() {
    let trial = Trial::new("external", 2, &LONG);
    for &moment in planned(&Moment::ALL, &[Moment::AllReduce]) {
        let (attempt, outside) = begin(&trial, moment);
        let rank = moment.rank(2);
        let stopped = stop(outside.process(rank));
        attempt.let_go(0);
        is(&attempt, rank, "dead");
        stopped.goes_on();
        let finished = attempt.finishes(&format!("a stop longer than the lease at {moment:?}"));
        assert_eq!(outside.ends(), [Some(0); 2], "{moment:?}:\n{}", finished.said);
        finished.leaves_nothing();
        assert!(finished.said.contains(&format!("rank {rank} on here was lost")), "{}", finished.said);
        assert_eq!(finished.count("steps WHERE voided = 1"), 0, "{moment:?}:\n{}", finished.said);
    }
}

/// What it does when it goes on is nothing to the run, which has another in its place.
#[test]
fn a_worker_that_stands_still_until_another_has_its_place_is_refused_and_changes_nothing() {
    let trial = Trial::new("external", 2, &LONG);
    for &moment in planned(&Moment::ALL, &[Moment::AllReduce]) {
        let (attempt, mut outside) = begin(&trial, moment);
        let rank = moment.rank(2);
        let stopped = stop(outside.process(rank));
        attempt.let_go(0);
        is(&attempt, rank, "dead");
        let replaced = outside.replace(rank);
        let other = u64::from(outside.process(rank));
        attempt.becomes("another in its place", |status| {
            let members = status["members"].as_array();
            members.into_iter().flatten().any(|member| member["process"] == other)
        });
        stopped.goes_on();
        let finished = attempt.finishes(&format!("a stop until there was another at {moment:?}"));
        assert_eq!(replaced.ends(), Some(75), "{moment:?}:\n{}", finished.said);
        assert!(
            finished.said.contains(&format!("rank {rank} is taken by process {other}")),
            "{}",
            finished.said
        );
        assert_eq!(outside.ends(), [Some(0); 2], "{moment:?}:\n{}", finished.said);
        finished.leaves_nothing();
    }
}
