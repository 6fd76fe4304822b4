//! A worker that stands still for a while and goes on (SIGSTOP, then SIGCONT).

use tests::moments::Moment;
use tests::trial::{Attempt, Trial, stop};

use crate::planned;

/// The process of a rank.
fn process(attempt: &Attempt<'_>, rank: u32) -> u32 {
    let status = attempt.status();
    let members = status["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["rank"] == rank).unwrap();
    u32::try_from(member["process"].as_u64().unwrap()).unwrap()
}

pub(crate) fn is(attempt: &Attempt<'_>, rank: u32, state: &str) {
    attempt.becomes(&format!("rank {rank} being {state}"), |status| {
        let members = status["members"].as_array();
        members.into_iter().flatten().any(|member| member["rank"] == rank && member["state"] == state)
    });
}

/// At one moment after the other of one run.
#[test]
fn a_worker_that_stands_still_for_less_than_its_lease_is_suspected_and_nobody_is_lost() {
    let moments = planned(Moment::FIRST, &[Moment::Backward]);
    let trial = Trial::new("local", 2, &["recovery.lease=6", "checkpoint.every=1"]);
    let mut attempt = trial.start("short", Moment::faults_at(moments, 2, "wait"));
    for (place, moment) in moments.iter().enumerate() {
        attempt.comes_to(place);
        let rank = moment.rank(2);
        let stopped = stop(process(&attempt, rank));
        attempt.let_go(place);
        is(&attempt, rank, "suspect");
        stopped.goes_on();
    }
    let finished = attempt.finishes("a stop shorter than the lease");
    finished.leaves_nothing();
    assert_eq!((finished.count("epochs"), finished.count("discards")), (1, 0), "{}", finished.said);
}
