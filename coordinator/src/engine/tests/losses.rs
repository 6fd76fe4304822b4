//! What a lost worker leads to.

use proto::v1::restore::Source as From;
use proto::v1::{Held, Prepared, Restored};

use super::*;

fn at_update(spec: Spec) -> Rig {
    let mut rig = Rig::with(spec);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 3));
    rig
}

fn killed(rank: Rank) -> Event {
    Event::Exited { rank, process: 100 + rank, exit: Exit::Signal(9), last_lines: vec![] }
}

fn holding(rank: Rank, process: u32, held: Option<Held>) -> Event {
    let join = Join { process, run_id: "test".into(), held, ..join("1", rank) };
    Event::Joining { stream: u64::from(process), rank, join }
}

fn formed(step: u64) -> Report {
    let held = Held { stage: 0, step, attempt: 1, ..Held::default() };
    Report::Formed(Formed { held: Some(held), mirrored: false })
}

#[test]
fn a_launcher_that_can_is_told_to_start_a_killed_worker_again() {
    let mut rig = at_update(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    rig.event(killed(1));
    let out = rig.pass(seconds(1));
    assert!(out.contains(&Command::Restart { rank: 1 }), "{out:?}");
    assert!(!out.contains(&Command::Restart { rank: 0 }));
    let told = |wanted: fn(&Order) -> bool| out.iter().filter_map(order).filter(|o| wanted(o)).count();
    assert_eq!(told(|o| matches!(o, Order::AbortCollectives(_))), 1);
    assert_eq!(told(|o| matches!(o, Order::Discard(d) if d.step == 3)), 1);
}

/// Its end by the launcher's own hand would be taken for the next loss, and so on.
#[test]
fn a_worker_that_is_being_started_is_left_alone_when_the_next_loss_comes() {
    let mut rig = at_update(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    rig.event(killed(1));
    assert_eq!(started(&rig.pass(seconds(1))), [1]);
    rig.event(killed(0));
    assert_eq!(started(&rig.pass(seconds(1))), [0], "rank 1 is on its way");
    rig.event(Event::Exited { rank: 1, process: 201, exit: Exit::Code(1), last_lines: vec![] });
    assert_eq!(started(&rig.pass(seconds(1))), [1], "it did not come to joining");
}

#[test]
fn a_worker_that_dies_before_the_first_world_does_not_have_the_others_started_anew() {
    let mut rig = Rig::with(Spec { respawns: true, ..spec(3, vec![stage("a", 9)]) });
    rig.join(0);
    rig.event(killed(1));
    assert_eq!(started(&rig.pass(seconds(1))), [1], "rank 2 was started with the run");
}

#[test]
fn a_worker_that_was_waited_for_in_vain_is_started_again_at_the_next_loss() {
    let mut rig = at_update(Spec { respawns: true, min_world: 2, ..spec(3, vec![stage("a", 9)]) });
    rig.event(killed(2));
    assert_eq!(started(&rig.pass_heard(2, &[0, 1])), [2]);
    rig.pass_heard(31, &[0, 1]);
    assert_eq!(rig.engine.epoch(), 2, "without it");
    rig.event(killed(1));
    assert_eq!(started(&rig.pass_heard(1, &[0])), [1, 2]);
}

/// Its stream ends before its launcher tells its exit, as behind ssh.
#[test]
fn a_worker_that_dies_while_another_is_waited_for_is_started_again_too() {
    let mut rig = at_update(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    rig.event(killed(1));
    assert_eq!(started(&rig.pass(seconds(1))), [1]);
    rig.event(Event::Disconnected { rank: 0, incarnation: incarnation(1), reason: "closed".into() });
    assert_eq!(started(&rig.event(killed(0))), [0]);
}

#[test]
fn workers_that_fall_silent_together_are_all_started_again() {
    let mut rig = at_update(Spec { respawns: true, ..spec(3, vec![stage("a", 9)]) });
    assert_eq!(started(&rig.pass_heard(17, &[0])), [1, 2]);
}

#[test]
fn a_worker_that_joined_and_died_before_the_first_world_is_started_again() {
    let mut rig = Rig::with(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    rig.join(0);
    rig.event(Event::Disconnected { rank: 0, incarnation: incarnation(1), reason: "closed".into() });
    assert_eq!(started(&rig.event(killed(0))), [0]);
}

/// Who waits for the others says that it forms; the one that they wait for does not.
#[test]
fn a_worker_that_hangs_while_the_world_forms_is_lost_and_not_those_that_wait_for_it() {
    let mut rig = Rig::with(Spec { respawns: true, ..spec(3, vec![stage("a", 9)]) });
    (0..3).for_each(|rank| drop(rig.join(rank)));
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    for _ in 0..70 {
        rig.pass(seconds(1));
        for (rank, phase) in [(0, "forming"), (1, "reading"), (2, "forming")] {
            let beat = proto::v1::Heartbeat { phase: phase.into(), progress: 1 };
            rig.event(rig.message(rank, Report::Heartbeat(beat)));
        }
    }
    let restarted: Vec<Rank> = started(&rig.done);
    assert_eq!(restarted, [1]);
}

/// It says that it forms, as those do that wait for it; in the second world only they say so anew.
#[test]
fn a_worker_that_hangs_in_the_forming_itself_is_lost_with_the_second_world_at_the_latest() {
    let mut rig = Rig::with(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    (0..2).for_each(|rank| drop(rig.join(rank)));
    for epoch in 1..=2 {
        rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
        for _ in 0..70 {
            rig.pass(seconds(1));
            if rig.engine.epoch() > epoch || started(&rig.done).len() as u64 == epoch {
                break;
            }
            for (rank, progress) in [(0, epoch), (1, 1)] {
                let beat = proto::v1::Heartbeat { phase: "forming".into(), progress };
                rig.event(rig.message(rank, Report::Heartbeat(beat)));
            }
        }
        let lost = *started(&rig.done).last().expect("somebody is lost");
        rig.event(holding(lost, 200, None));
    }
    assert_eq!(started(&rig.done), [0, 1]);
}

#[test]
fn what_a_stranger_was_refused_for_is_not_told_of_the_worker_that_then_dies() {
    let mut rig = at_update(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    rig.event(Event::Joining { stream: 9, rank: 1, join: join("0.9", 1) });
    rig.event(killed(1));
    rig.pass(seconds(1));
    assert_eq!(rig.outcome(), None);
    assert!(rig.loss().contains("signal 9"), "{}", rig.loss());
}

/// Two run out of memory in one step: the second says so when the step is dropped already.
#[test]
fn work_that_fails_after_it_was_dropped_costs_its_worker_and_not_the_run() {
    let mut rig = at_update(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    let failed = || {
        let reason = "no memory".to_owned();
        Report::WorkFailed(proto::v1::WorkFailed { reason, wrong_input: false })
    };
    rig.say(0, failed());
    assert_eq!(started(&rig.pass_heard(2, &[0, 1])), [0]);
    assert_eq!(started(&rig.say(1, failed())), [1]);
    assert_eq!(rig.outcome(), None);
}

/// Rank 1 holds step 2 of a future that was voided, and done again by rank 0 alone.
#[test]
fn a_worker_that_comes_back_from_a_voided_future_is_given_the_present_state() {
    let mut rig = at_update(Spec { min_world: 1, ..spec(2, vec![stage("a", 9)]) });
    let before = rig.engine.holding(0);
    rig.event(killed(1));
    rig.event(killed(0));
    rig.pass(seconds(1));
    rig.event(holding(0, 200, None));
    rig.pass_heard(31, &[0]);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let out = rig.say(0, Report::Formed(Formed::default()));
    assert!(
        records(&out).iter().any(|r| matches!(r, Record::Restored(RestoredRecord { to: 0, .. }))),
        "{out:?}"
    );
    rig.resume_until(&out, |c| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3));
    let now = rig.engine.holding(0);
    assert_eq!((before.step, now.step), (2, 2));
    let is_pending = |c: &&Command| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3);
    let pending: Vec<Command> = rig.done.iter().rev().filter(is_pending).take(1).cloned().collect();
    rig.event(holding(1, 201, Some(before)));
    rig.resume_until(&pending, |c| matches!(c, Command::Journal(Record::Epoch(e)) if e.epoch == 3));
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let newest = rig.engine.holding(0);
    rig.say(0, Report::Formed(Formed { held: Some(newest), mirrored: false }));
    let stale = Held { step: newest.step, ..before };
    let out = rig.say(1, Report::Formed(Formed { held: Some(stale), mirrored: false }));
    let from = out.iter().filter_map(|c| match order(c) {
        Some(Order::Restore(restore)) => restore.source.clone(),
        _ => None,
    });
    assert_eq!(from.collect::<Vec<_>>(), vec![From::Member(0); 2], "{out:?}");
}

fn started(out: &[Command]) -> Vec<Rank> {
    let rank = |command: &Command| match command {
        Command::Restart { rank } => Some(*rank),
        _ => None,
    };
    out.iter().filter_map(rank).collect()
}

#[test]
fn a_worker_that_comes_back_empty_gets_its_state_from_one_that_holds_the_newest_step() {
    let mut rig = at_update(spec(2, vec![stage("a", 9)]));
    rig.event(killed(0));
    rig.pass(seconds(1));
    rig.event(holding(0, 200, None));
    assert_eq!(rig.engine.epoch(), 2);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    rig.say(1, formed(2));
    let out = rig.say(0, Report::Formed(Formed::default()));
    let restores: Vec<_> = out
        .iter()
        .filter_map(|c| match order(c) {
            Some(Order::Restore(restore)) => Some((restore.step, restore.source.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(restores, vec![(2, Some(From::Member(1))); 2], "group rank 1 holds step 2");
    let restored = |digest: &str| {
        Report::Restored(Restored { stage: 0, step: 2, digest: digest.into(), part: None, sent: 0 })
    };
    rig.say(0, restored("x"));
    let out = rig.say(1, restored("x"));
    assert!(matches!(
        records(&out)[0],
        Record::Restored(RestoredRecord { from: 2, to: 2, source: Source::Member(1), .. })
    ));
    assert!(out.iter().any(|c| matches!(c, Command::Plan { step: 3, attempt: 2, .. })), "{out:?}");
}

#[test]
fn sharded_state_that_is_lost_comes_from_the_newest_checkpoint_and_voids_the_steps_after_it() {
    let sharded = StageSpec { sharded: true, checkpoint_every: 2, ..stage("a", 9) };
    let mut rig = Rig::with(spec(2, vec![sharded]));
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(u)) if u.step == 3));
    let pending: Vec<Command> = rig.done.iter().rev().take(3).cloned().collect();
    rig.resume_until(&pending, |c| matches!(order(c), Some(Order::Update(u)) if u.step == 4));
    rig.event(killed(1));
    rig.pass(seconds(1));
    rig.event(holding(1, 200, None));
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    rig.say(0, formed(3));
    let out = rig.say(1, Report::Formed(Formed::default()));
    let Some(Command::OpenCheckpoint(name)) = out.iter().find(|c| matches!(c, Command::OpenCheckpoint(_)))
    else {
        panic!("a checkpoint is looked at: {out:?}")
    };
    assert_eq!(name.to_string(), "a-step-2");
    rig.event(Event::CheckpointOpened { name: name.clone(), folder: "f".into() });
    let restored = |index| {
        let part = Some(proto::v1::Part { index, of: 2 });
        Report::Restored(Restored { stage: 0, step: 2, digest: format!("d{index}"), part, sent: 0 })
    };
    rig.say(0, restored(0));
    let out = rig.say(1, restored(1));
    let restored = |r: &&Record| matches!(r, Record::Restored(RestoredRecord { from: 3, to: 2, .. }));
    assert!(records(&out).iter().any(restored), "{out:?}");
    assert!(out.iter().any(|c| matches!(c, Command::Plan { step: 3, number: 3, .. })), "{out:?}");
}

#[test]
fn a_worker_that_prepared_the_committed_step_before_its_coordinator_died_is_told_to_commit_it() {
    let mut rig = Rig::with(spec(1, vec![stage("a", 9)]));
    rig.run_until(|c| matches!(order(c), Some(Order::Commit(c)) if c.step == 2));
    let journal: Vec<Record> = records(&rig.done).into_iter().cloned().collect();
    let spec = Spec { term: 2, ..spec(1, vec![stage("a", 9)]) };
    let mut engine = Engine::resume(spec, Duration::ZERO, &journal);
    assert_eq!(engine.committed_step(), 2);
    let prepared = Some(Prepared { step: 2, attempt: 1 });
    let held = Some(Held { stage: 0, step: 1, prepared, ..Held::default() });
    let out = engine.handle(Duration::ZERO, holding(0, 100, held));
    let commits: Vec<_> = out
        .iter()
        .filter_map(|c| match order(c) {
            Some(Order::Commit(commit)) => Some((commit.step, commit.attempt, commit.skip)),
            _ => None,
        })
        .collect();
    assert_eq!(commits, [(2, 1, false)]);
}

#[test]
fn a_world_goes_on_without_who_is_gone_for_good_if_it_is_large_enough_and_takes_him_back_later() {
    let mut rig = at_update(Spec { min_world: 1, ..spec(2, vec![stage("a", 9)]) });
    rig.event(killed(1));
    let waits = rig.pass_heard(20, &[0]);
    assert!(!waits.iter().any(|c| matches!(c, Command::Journal(Record::Epoch(_)))), "the grace is 30 s");
    rig.pass_heard(12, &[0]);
    assert_eq!(rig.engine.epoch(), 2);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let out = rig.say(0, formed(2));
    let is_epoch_3 = |c: &Command| matches!(c, Command::Journal(Record::Epoch(e)) if e.epoch == 3);
    rig.event(holding(1, 200, None));
    rig.resume_until(&out, is_epoch_3);
    assert_eq!(rig.engine.committed_step(), 3, "it comes in between two steps");
    assert_eq!(rig.engine.epoch(), 3);
}

#[test]
fn losses_without_a_step_between_them_end_the_run_with_the_last_reason() {
    let mut rig = at_update(Spec { respawns: true, ..spec(2, vec![stage("a", 9)]) });
    for process in [101, 201, 202, 203] {
        rig.event(Event::Exited { rank: 1, process, exit: Exit::Signal(11), last_lines: vec![] });
        rig.pass_heard(2, &[0]);
    }
    rig.pass(seconds(5));
    let (reason, code) = rig.failure();
    assert!(
        reason.contains("rank 1 on host1 was lost") && reason.contains("recovery.max_discards is 3"),
        "{reason}"
    );
    assert_eq!(code, 1);
}

#[test]
fn a_pause_holds_the_run_between_two_steps_until_it_is_lifted() {
    let mut rig = at_update(spec(2, vec![stage("a", 9)]));
    rig.event(Event::Pause(true));
    let pending: Vec<Command> = rig.done.iter().rev().take(3).cloned().collect();
    rig.resume_until(&pending, |_| false);
    assert_eq!(rig.engine.verdict(rig.now).to_string(), "paused: held by a person after step 3");
    let out = rig.event(Event::Pause(false));
    assert!(out.iter().any(|c| matches!(c, Command::Plan { step: 4, .. })));
}

/// A worker that stands by takes part in nothing that could be dropped with it.
#[test]
fn a_worker_outside_the_world_that_dies_or_fails_disturbs_no_step() {
    let failed = || {
        let reason = "no memory".to_owned();
        Report::WorkFailed(proto::v1::WorkFailed { reason, wrong_input: false })
    };
    for dies in [true, false] {
        let mut rig = at_update(Spec { max_world: 1, min_world: 1, ..spec(2, vec![stage("a", 9)]) });
        let event = if dies {
            Event::Exited { rank: 1, process: 101, exit: Exit::Signal(9), last_lines: vec![] }
        } else {
            rig.message(1, failed())
        };
        rig.event(event);
        rig.pass_heard(4, &[0]);
        assert_eq!(rig.engine.verdict(rig.now).state, "running");
        assert!(matches!(rig.engine.members()[&1].state, MemberState::Dead { .. }));
        assert!(!records(&rig.done).iter().any(|record| matches!(record, Record::Discarded(_))));
    }
}

/// A run of ranks that own slices, at the update of step 4 with a checkpoint after step 2, of which `lost` have died and
/// come back empty, and all others have what their neighbours own; what it wants when all have formed.
fn slices_are_lost(spec: Spec, lost: &[Rank]) -> (Rig, Vec<Command>) {
    let world = spec.ranks();
    let sharded = StageSpec { sharded: true, checkpoint_every: 2, ..stage("a", 9) };
    let mut rig = Rig::with(Spec { stages: vec![sharded], ..spec });
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(u)) if u.step == 3));
    let pending: Vec<Command> = rig.done.iter().rev().take(world as usize + 1).cloned().collect();
    rig.resume_until(&pending, |c| matches!(order(c), Some(Order::Update(u)) if u.step == 4));
    let out = die_and_come_back(&mut rig, lost);
    (rig, out)
}

/// What the engine wants once `lost` have died in step 4 and come back empty, and all have formed.
fn die_and_come_back(rig: &mut Rig, lost: &[Rank]) -> Vec<Command> {
    for rank in lost {
        // Nothing that a sample could be to blame for.
        let (process, exit) = (rig.engine.members()[rank].process, Exit::Code(255));
        rig.event(Event::Exited { rank: *rank, process, exit, last_lines: vec![] });
    }
    rig.pass(seconds(1));
    lost.iter().for_each(|rank| drop(rig.event(holding(*rank, 200 + rank, None))));
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let mut out = Vec::new();
    for rank in 0..rig.world {
        let held = Some(rig.engine.holding(0)).filter(|_| !lost.contains(&rank));
        let mirrored = held.is_some();
        out = rig.say(rank, Report::Formed(Formed { held, mirrored }));
    }
    out
}

/// Each loss goes back to the checkpoint, and the steps from there are committed once more.
#[test]
fn losses_at_the_same_step_end_the_run_though_steps_before_it_are_repeated() {
    let (mut rig, mut out) = slices_are_lost(spec(2, vec![]), &[1]);
    for losses in 1..=3 {
        assert_eq!(rig.outcome(), None, "after {losses} losses");
        let name = out.iter().find_map(|c| match c {
            Command::OpenCheckpoint(name) => Some(name.clone()),
            _ => None,
        });
        rig.event(Event::CheckpointOpened { name: name.expect("a checkpoint"), folder: "f".into() });
        for index in 0..2 {
            let part = Some(proto::v1::Part { index, of: 2 });
            let restored = Restored { stage: 0, step: 2, digest: format!("d{index}"), part, sent: 0 };
            out = rig.say(index, Report::Restored(restored));
        }
        rig.resume_until(&out, |c| matches!(order(c), Some(Order::Update(u)) if u.step == 4));
        out = die_and_come_back(&mut rig, &[1]);
    }
    rig.pass(seconds(5));
    assert!(rig.failure().0.contains("recovery.max_discards is 3"), "{:?}", rig.outcome());
}

#[test]
fn what_a_lost_rank_owned_comes_from_the_memory_of_its_neighbour_and_no_step_is_repeated() {
    let (mut rig, out) = slices_are_lost(Spec { redundant: true, ..spec(3, vec![]) }, &[1]);
    let restores: Vec<_> = out
        .iter()
        .filter_map(|c| match order(c) {
            Some(Order::Restore(restore)) => Some((restore.step, restore.source.clone())),
            _ => None,
        })
        .collect();
    let mirrored = From::Mirrored(proto::v1::Mirrored { lost: vec![1] });
    assert_eq!(restores, vec![(3, Some(mirrored)); 3], "{out:?}");
    let mut out = Vec::new();
    for rank in 0..3 {
        let part = Some(proto::v1::Part { index: rank, of: 3 });
        let digest = format!("d{rank}");
        out = rig.say(rank, Report::Restored(Restored { stage: 0, step: 3, digest, part, sent: 10 }));
    }
    let source = Source::Mirrors([(1, 2)].into());
    let expected = Record::Restored(RestoredRecord { from: 3, to: 3, source, sent: 30 });
    assert_eq!(records(&out)[0], &expected);
    assert!(out.iter().any(|c| matches!(c, Command::Plan { step: 4, .. })), "{out:?}");
}

#[test]
fn slices_that_are_lost_with_their_mirrors_come_from_the_newest_checkpoint() {
    let opened = |spec, lost: &[Rank]| {
        let (_, out) = slices_are_lost(spec, lost);
        out.iter().any(|c| matches!(c, Command::OpenCheckpoint(name) if name.to_string() == "a-step-2"))
    };
    let redundant = |ranks| Spec { redundant: true, ..spec(ranks, vec![]) };
    assert!(opened(redundant(3), &[1, 2]), "rank 2 mirrors rank 1");
    assert!(opened(spec(3, vec![]), &[1]), "nobody mirrors anybody");
    assert!(!opened(redundant(4), &[0, 2]), "1 and 3 mirror 0 and 2");
}

/// On the same hosts: elsewhere a rank would own another slice.
#[test]
fn slices_that_all_workers_hold_outlive_their_coordinator() {
    let cut = || spec(2, vec![StageSpec { sharded: true, ..stage("a", 9) }]);
    let mut rig = Rig::with(cut());
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3));
    let journal: Vec<Record> = records(&rig.done).into_iter().cloned().collect();
    let held = Some(rig.engine.holding(0));
    for (host, goes_on) in [("host1", true), ("elsewhere", false)] {
        let mut rig = Rig::with(cut());
        rig.engine = Engine::resume(cut(), Duration::ZERO, &journal);
        for (rank, host) in [(0, "host0"), (1, host)] {
            let join = Join { run_id: "test".into(), host: host.into(), held, ..join("1", rank) };
            rig.event(Event::Joining { stream: u64::from(rank), rank, join });
        }
        rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
        rig.say(0, Report::Formed(Formed { held, mirrored: false }));
        let out = rig.say(1, Report::Formed(Formed { held, mirrored: false }));
        let begins = out.iter().any(|c| matches!(c, Command::Plan { step: 3, .. }));
        assert_eq!(begins, goes_on, "{host}: {out:?}");
    }
}
