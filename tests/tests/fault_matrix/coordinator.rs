//! A coordinator that is killed, and another on the same folder.

use tests::moments::Moment;
use tests::trial::Trial;

use crate::planned;

/// Workers that are not its children keep the run's state in memory, and the journal has the rest.
#[test]
fn another_coordinator_takes_the_workers_that_are_there_and_repeats_no_step() {
    let trial = Trial::new("external", 2, &["checkpoint.every=1"]);
    for &moment in planned(&Moment::ALL, &[Moment::Commit]) {
        let mut attempt = trial.begin(moment, "wait");
        let mut outside = attempt.outside();
        if moment == Moment::FormingAgain {
            // The one that the plan kills.
            outside.restart(1);
        }
        attempt.comes_to(0);
        let down = attempt.kill();
        down.let_go(0);
        let finished = down.resume().finishes(&format!("the coordinator killed at {moment:?}, workers left"));
        assert_eq!(outside.ends(), [Some(0); 2], "{moment:?}:\n{}", finished.said);
        finished.leaves_nothing();
        assert_eq!(finished.count("steps WHERE voided = 1"), 0, "{moment:?}:\n{}", finished.said);
        assert!(!finished.said.contains("came from checkpoint"), "{moment:?}:\n{}", finished.said);
        assert_eq!(finished.count("terms"), 2, "{moment:?}");
    }
}

/// Its children die with it, and what they had is in the newest checkpoint.
#[test]
fn another_coordinator_starts_workers_of_its_own_from_the_newest_checkpoint() {
    let trial = Trial::new("local", 2, &["checkpoint.every=1"]);
    for &moment in planned(&Moment::ALL, &[Moment::Checkpoint]) {
        let mut attempt = trial.begin(moment, "wait");
        attempt.comes_to(0);
        let down = attempt.kill();
        // A run without steps begins anew, and comes to its first moment again.
        down.let_go(0);
        let finished = down.resume().finishes(&format!("the coordinator killed at {moment:?}"));
        finished.leaves_nothing();
        assert_eq!(finished.count("terms"), 2, "{moment:?}");
    }
}
