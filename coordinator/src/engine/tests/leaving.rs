//! Workers that somebody else told to end.

use super::*;

fn leaving() -> Report {
    Report::Leaving(proto::v1::Leaving { seconds: 30 })
}

/// At the update of step 2, one committed; what is unanswered.
fn at_update(spec: Spec) -> (Rig, Vec<Command>) {
    let mut rig = Rig::with(spec);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 2));
    let is_pending = |c: &&Command| matches!(order(c), Some(Order::Update(u)) if u.step == 2);
    let pending = rig.done.iter().filter(is_pending).cloned().collect();
    (rig, pending)
}

fn position(rig: &Rig, is: impl Fn(&Command) -> bool) -> usize {
    rig.done.iter().position(is).unwrap_or_else(|| panic!("{:?}", rig.done))
}

#[test]
fn what_only_those_hold_who_leave_goes_to_disk_first() {
    let sharded = StageSpec { sharded: true, ..stage("a", 9) };
    let cut = Spec { min_world: 1, ..spec(2, vec![sharded]) };
    let needed = spec(2, vec![stage("a", 9)]);
    for spec in [cut, needed] {
        let (mut rig, pending) = at_update(spec);
        rig.say(1, leaving());
        rig.resume_until(&pending, |c| matches!(order(c), Some(Order::Stop(_))));
        let written = position(&rig, |c| matches!(c, Command::Journal(Record::Checkpoint(_))));
        let gone = position(&rig, |c| matches!(order(c), Some(Order::Stop(_))));
        assert!(written < gone);
    }
}

#[test]
fn whoever_is_not_needed_goes_between_two_steps() {
    let (mut rig, pending) = at_update(Spec { min_world: 1, ..spec(2, vec![stage("a", 9)]) });
    rig.say(1, leaving());
    rig.resume_until(&pending, |c| matches!(order(c), Some(Order::Stop(_))));
    assert!(!rig.done.iter().any(|c| matches!(c, Command::StageCheckpoint { .. })));
    assert_eq!(rig.engine.members()[&1].state, MemberState::Left);
}

#[test]
fn a_held_run_lets_workers_go() {
    let (mut rig, pending) = at_update(Spec { min_world: 1, ..spec(2, vec![stage("a", 9)]) });
    rig.event(Event::Pause(true));
    rig.resume_until(&pending, |_| false);
    assert_eq!(rig.engine.verdict(rig.now).state, "paused");
    let out = rig.say(1, leaving());
    assert!(out.iter().any(|c| matches!(order(c), Some(Order::Stop(_)))), "{out:?}");
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let held = Some(rig.engine.holding(0));
    rig.say(0, Report::Formed(Formed { held, mirrored: false }));
    assert_eq!(rig.engine.verdict(rig.now).state, "paused", "it is held all the same");
}

#[test]
fn the_end_of_one_that_was_told_to_end_strikes_no_sample() {
    let (mut rig, _) = at_update(spec(2, vec![stage("a", 9)]));
    rig.say(1, leaving());
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "closed".into() });
    rig.pass_heard(1, &[0]);
    assert_eq!(rig.engine.verdict(rig.now).state, "waiting");
    assert!(!records(&rig.done).iter().any(|r| matches!(r, Record::Suspected(_))));
}
