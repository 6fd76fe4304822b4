use super::*;

fn beat(progress: u64) -> Report {
    Report::Heartbeat(proto::v1::Heartbeat { phase: "decode".into(), progress })
}

#[test]
fn waiting_says_how_many_are_there_and_what_time_is_left() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.join(0);
    rig.pass_heard(48, &[0]);
    assert_eq!(rig.engine.verdict(rig.now).to_string(), "waiting: 1 of 2 workers, 12 s left");
}

#[test]
fn a_member_is_suspect_after_half_its_lease_and_is_not_once_it_is_heard() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(_))));
    rig.pass(seconds(9));
    assert!(matches!(rig.engine.members()[&1].state, MemberState::Suspect { .. }));
    rig.say(1, beat(1));
    assert_eq!(rig.engine.members()[&1].state, MemberState::Active);
}

#[test]
fn a_sentence_is_announced_once_however_often_time_passes() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.pass(seconds(20));
    let announced = rig.done.iter().filter(|c| matches!(c, Command::Announce(_))).count();
    assert_eq!(announced, 1);
}

#[test]
fn a_world_that_never_fills_ends_the_run_with_who_is_missing() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.join(0);
    let out = rig.pass_heard(61, &[0]);
    rig.resume_until(&out, |_| false);
    let (reason, code) = rig.failure();
    assert!(
        reason.starts_with("1 of 2 workers joined within 60 s, 2 are needed; missing: rank 1 (host host1)"),
        "{reason}"
    );
    assert_eq!(code, 75);
}

#[test]
fn a_silent_member_is_lost_after_its_lease_and_not_before() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(_))));
    for _ in 0..15 {
        rig.pass(seconds(1));
        rig.say(0, beat(1));
    }
    assert_eq!(rig.engine.verdict(rig.now).state, "running");
    rig.pass(seconds(1));
    rig.pass(seconds(5));
    let reason = rig.loss();
    assert!(reason.contains("rank 1 on host1 was lost during rollout of step 1"), "{reason}");
    assert!(reason.contains("silent for 15 s"), "{reason}");
}

#[test]
fn a_member_that_lives_without_advancing_is_lost_only_while_it_owes_an_answer() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(_))));
    rig.say(0, Report::RolloutsReady(RolloutsReady { step: 1, attempt: 1, samples: vec![] }));
    for second in 0..99 {
        rig.pass(seconds(1));
        rig.say(0, beat(1));
        rig.say(1, beat(second));
    }
    for _ in 0..99 {
        rig.pass(seconds(1));
        rig.say(0, beat(1));
        rig.say(1, beat(98));
    }
    assert_eq!(rig.engine.verdict(rig.now).state, "running");
    rig.pass(seconds(5));
    let reason = rig.loss();
    assert!(reason.contains("rank 1") && reason.contains("no progress for 100 s"), "{reason}");
}

#[test]
fn a_coordinator_that_was_held_up_does_not_take_its_own_silence_for_theirs() {
    let mut rig = Rig::new(1, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(_))));
    rig.now += seconds(90);
    rig.event(Event::Tick);
    assert_eq!(rig.engine.verdict(rig.now).state, "running");
}
