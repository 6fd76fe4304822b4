//! A checkpoint is being put in place, off the coordinator's thread, when something else happens.

use super::*;

/// Two steps of a run with a checkpoint after each, the first of which is being published; with its answer.
fn at_publication() -> (Rig, Event) {
    let mut rig = Rig::with(spec(2, vec![StageSpec { checkpoint_every: 1, ..stage("a", 9) }]));
    rig.run_until(|c| matches!(c, Command::PublishCheckpoint { .. }));
    let published = rig.done.iter().find_map(carry_out_publication).expect("it is asked for");
    (rig, published)
}

fn carry_out_publication(command: &Command) -> Option<Event> {
    matches!(command, Command::PublishCheckpoint { .. }).then(|| carry_out(command)).flatten()
}

/// Rank 1 dies and comes back with what it held.
fn lose_and_form(rig: &mut Rig) -> Vec<Command> {
    rig.event(Event::Disconnected {
        rank: 1,
        incarnation: rig.sender(1).incarnation,
        reason: "closed".into(),
    });
    rig.pass_heard(1, &[0]);
    rig.join(1);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let held = Some(rig.engine.holding(0));
    rig.say(0, Report::Formed(Formed { held, mirrored: false }));
    rig.say(1, Report::Formed(Formed { held, mirrored: false }))
}

/// A person stops the run, and then its workers are gone.
fn stop_and_lose_all(rig: &mut Rig) {
    rig.event(Event::Interrupted);
    for rank in 0..2 {
        let incarnation = rig.sender(rank).incarnation;
        rig.event(Event::Disconnected { rank, incarnation, reason: "closed".into() });
    }
    rig.pass(seconds(1));
}

fn staged(rig: &Rig) -> usize {
    rig.done.iter().filter(|c| matches!(c, Command::StageCheckpoint { .. })).count()
}

#[test]
fn a_loss_meanwhile_neither_writes_it_twice_nor_forgets_it() {
    let (mut rig, published) = at_publication();
    lose_and_form(&mut rig);
    assert_eq!(staged(&rig), 1, "the same is on its way");
    assert_eq!(rig.engine.verdict(rig.now).reason, "publishing checkpoint a-step-1");
    let out = rig.event(published);
    assert!(out.iter().any(|c| matches!(c, Command::Plan { step: 2, .. })), "{out:?}");
}

#[test]
fn a_run_that_is_stopped_and_loses_its_workers_meanwhile_waits_for_it() {
    let (mut rig, published) = at_publication();
    stop_and_lose_all(&mut rig);
    assert_eq!(rig.outcome(), None);
    let out = rig.event(published);
    assert!(matches!(records(&out)[0], Record::Checkpoint(_)), "{out:?}");
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

/// What stands behind a command that fails is not carried out, the end of the run as little as anything.
#[test]
fn a_run_whose_last_record_cannot_be_written_ends_all_the_same() {
    let (mut rig, published) = at_publication();
    stop_and_lose_all(&mut rig);
    let out = rig.event(published);
    assert!(out.contains(&Command::End(Outcome::Interrupted)), "{out:?}");
    let out = rig.event(Event::Trouble { reason: "no space left".into(), exit_code: 1 });
    let failed = Outcome::Failed { reason: "no space left".into(), exit_code: 1 };
    assert!(out.contains(&Command::End(failed)), "{out:?}");
}

/// The one that is void comes to its place first.
#[test]
fn two_on_their_way_are_told_apart() {
    let cut = StageSpec { sharded: true, checkpoint_every: 2, ..stage("a", 9) };
    let mut rig = Rig::with(spec(1, vec![cut]));
    rig.run_until(|c| matches!(c, Command::PublishCheckpoint { .. }));
    let void = rig.done.iter().find_map(carry_out_publication).expect("it is asked for");
    // The state is lost, and no checkpoint is recorded: the run begins again.
    let incarnation = rig.sender(0).incarnation;
    rig.event(Event::Disconnected { rank: 0, incarnation, reason: "closed".into() });
    rig.pass(seconds(1));
    rig.join(0);
    rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
    let out = rig.say(0, Report::Formed(Formed::default()));
    rig.resume_until(&out, |c| matches!(order(c), Some(Order::Update(u)) if u.step == 1));
    let is_update = |c: &&Command| matches!(order(c), Some(Order::Update(u)) if u.step == 1);
    let update: Vec<Command> = rig.done.iter().rev().find(is_update).into_iter().cloned().collect();
    rig.say(0, Report::Leaving(proto::v1::Leaving { seconds: 30 }));
    rig.resume_until(&update, |c| matches!(c, Command::PublishCheckpoint { .. }));
    let published = rig.done.iter().rev().find_map(carry_out_publication).expect("it is asked for");
    let out = rig.event(void);
    assert!(records(&out).is_empty(), "{out:?}");
    let out = rig.event(published);
    assert!(matches!(records(&out)[0], Record::Checkpoint(c) if c.name.to_string() == "a-step-1"), "{out:?}");
    assert!(rig.engine.publishing.is_empty());
}
