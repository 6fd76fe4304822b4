//! A person stops the run.

use proto::v1::Restored;

use super::*;

fn is_stop(c: &Command) -> bool {
    matches!(order(c), Some(Order::Stop(_)))
}

#[test]
fn a_step_that_is_being_rolled_out_is_discarded_and_the_steps_before_it_go_to_disk() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3));
    let out = rig.event(Event::Interrupted);
    assert_eq!(out.iter().filter(|c| matches!(order(c), Some(Order::Discard(d)) if d.step == 3)).count(), 2);
    rig.resume_until(&out, |_| false);
    let names: Vec<String> = records(&rig.done)
        .iter()
        .filter_map(|r| if let Record::Checkpoint(c) = r { Some(c.name.to_string()) } else { None })
        .collect();
    assert_eq!(names, ["a-step-2"]);
    assert_eq!(rig.engine.committed_step(), 2);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn a_step_whose_update_is_under_way_is_finished_first() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 3));
    let is_pending = |c: &&Command| matches!(order(c), Some(Order::Update(u)) if u.step == 3);
    let pending: Vec<Command> = rig.done.iter().filter(is_pending).cloned().collect();
    assert!(!rig.event(Event::Interrupted).iter().any(is_stop));
    rig.resume_until(&pending, |_| false);
    assert_eq!(rig.engine.committed_step(), 3);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn a_run_that_has_not_begun_ends_at_once() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.event(Event::Interrupted);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

fn checkpoints(rig: &Rig) -> Vec<String> {
    let name = |record: &&Record| match record {
        Record::Checkpoint(checkpoint) => Some(checkpoint.name.to_string()),
        _ => None,
    };
    records(&rig.done).iter().filter_map(name).collect()
}

/// At the rollout of step 3, two steps committed and on no disk.
fn at_rollout(spec: Spec) -> Rig {
    let mut rig = Rig::with(spec);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3));
    rig
}

#[test]
fn a_run_that_is_held_goes_to_disk_before_it_ends() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 2));
    let is_pending = |c: &&Command| matches!(order(c), Some(Order::Update(u)) if u.step == 2);
    let pending: Vec<Command> = rig.done.iter().filter(is_pending).cloned().collect();
    rig.event(Event::Pause(true));
    rig.resume_until(&pending, |_| false);
    assert_eq!(rig.engine.verdict(rig.now).state, "paused");
    let out = rig.event(Event::Interrupted);
    rig.resume_until(&out, |_| false);
    assert_eq!(checkpoints(&rig), ["a-step-2"]);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn a_run_that_waits_for_a_lost_worker_is_brought_to_disk_by_those_that_are_left() {
    let mut rig = at_rollout(spec(2, vec![stage("a", 9)]));
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "closed".into() });
    rig.pass_heard(1, &[0]);
    assert_eq!(rig.engine.verdict(rig.now).state, "waiting");
    rig.event(Event::Interrupted);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let held = Some(rig.engine.holding(0));
    let out = rig.say(0, Report::Formed(Formed { held, mirrored: false }));
    rig.resume_until(&out, |_| false);
    assert_eq!(checkpoints(&rig), ["a-step-2"]);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn a_run_whose_cut_weights_are_lost_ends_with_what_is_on_disk() {
    let sharded = StageSpec { sharded: true, ..stage("a", 9) };
    let mut rig = at_rollout(spec(2, vec![sharded]));
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "closed".into() });
    rig.pass_heard(1, &[0]);
    rig.event(Event::Interrupted);
    rig.pass_heard(11, &[0]);
    assert_eq!(checkpoints(&rig), [""; 0]);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn an_evaluation_that_an_interruption_cut_short_is_made_when_the_run_goes_on() {
    let evaluated = StageSpec { evaluate_every: 2, checkpoint_every: 2, validation: true, ..stage("a", 9) };
    let mut rig = Rig::new(1, vec![evaluated.clone()]);
    let is_evaluation = |c: &Command| matches!(order(c), Some(Order::Evaluate(e)) if e.step == 2);
    rig.run_until(is_evaluation);
    let out = rig.event(Event::Interrupted);
    rig.resume_until(&out, |_| false);
    assert_eq!(checkpoints(&rig), ["a-step-2"]);
    let journal: Vec<Record> = records(&rig.done).into_iter().cloned().collect();
    let mut rig = Rig::new(1, vec![evaluated.clone()]);
    rig.engine = Engine::resume(Spec { term: 1, ..spec(1, vec![evaluated]) }, Duration::ZERO, &journal);
    rig.join(0);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let out = rig.say(0, Report::Formed(Formed::default()));
    let out = [out, rig.event(opened("a-step-2"))].concat();
    assert!(out.iter().any(|c| matches!(order(c), Some(Order::Restore(_)))), "{out:?}");
    let restored = Restored { stage: 0, step: 2, digest: "after 2".into(), part: None, sent: 0 };
    let out = rig.say(0, Report::Restored(restored));
    assert!(out.iter().any(|c| matches!(c, Command::PlanEvaluation { .. })), "{out:?}");
    rig.resume_until(&out, |c| matches!(c, Command::Plan { step: 3, .. }));
    assert!(!rig.done.iter().any(|c| matches!(c, Command::StageCheckpoint { .. })), "it is there already");
}

fn opened(name: &str) -> Event {
    let (stage, step) = name.split_once("-step-").expect("a name");
    let name = CheckpointName { stage: stage.into(), step: step.parse().expect("a number") };
    Event::CheckpointOpened { name, folder: "f".into() }
}

/// What he owned lies with his neighbour, and needs a worker to be brought to.
#[test]
fn a_run_that_is_stopped_and_then_loses_a_slice_waits_for_another_worker_to_have_it() {
    let sharded = StageSpec { sharded: true, ..stage("a", 9) };
    let mut rig = Rig::with(Spec { redundant: true, ..spec(2, vec![sharded]) });
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 2));
    rig.event(Event::Interrupted);
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "closed".into() });
    rig.pass_heard(10, &[0]);
    assert_eq!((rig.engine.verdict(rig.now).state, rig.outcome()), ("waiting", None));
    rig.join(1);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let held = Some(rig.engine.holding(0));
    rig.say(0, Report::Formed(Formed { held, mirrored: true }));
    let out = rig.say(1, Report::Formed(Formed::default()));
    assert!(out.iter().any(|c| matches!(order(c), Some(Order::Restore(r)) if r.step == 1)), "{out:?}");
}
