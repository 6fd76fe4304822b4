//! Samples on which workers die.

use super::*;

fn orders_of(step: u64, order: &Order) -> Vec<&str> {
    match order {
        Order::Rollout(rollout) if rollout.step == step => {
            rollout.samples.iter().map(|s| s.id.as_str()).collect()
        }
        Order::Update(update) if update.step == step => {
            update.items.iter().filter_map(|item| Some(item.sample.as_ref()?.id.as_str())).collect()
        }
        _ => Vec::new(),
    }
}

/// Runs to its end a run whose workers die as `dies` says of a rank and its order, and come back empty; how often.
fn run(rig: &mut Rig, mut dies: impl FnMut(Rank, &Order) -> bool) -> u32 {
    let mut deaths = 0;
    for rank in 0..rig.world {
        let out = rig.join(rank);
        let answers = rig.answers(&out);
        rig.queue.extend(answers);
    }
    while let Some(event) = rig.queue.pop_front() {
        let mut out = rig.event(event);
        let dead = out.iter().find_map(|command| match command {
            Command::Send { rank, body, .. } => dies(*rank, body).then_some(*rank),
            _ => None,
        });
        if let Some(rank) = dead {
            deaths += 1;
            rig.queue.clear();
            let process = rig.engine.members()[&rank].process;
            let incarnation = rig.sender(rank).incarnation;
            rig.event(if rig.engine.spec.respawns {
                Event::Exited { rank, process, exit: Exit::Signal(9), last_lines: vec![] }
            } else {
                Event::Disconnected { rank, incarnation, reason: "closed".into() }
            });
            rig.pass(seconds(1));
            let join = Join { process: 200 + deaths, ..join("1", rank) };
            out = rig.event(Event::Joining { stream: u64::from(100 + deaths), rank, join });
        }
        let answers = rig.answers(&out);
        rig.queue.extend(answers);
    }
    deaths
}

fn rig(world: u32) -> Rig {
    Rig::with(Spec { respawns: true, ..spec(world, vec![stage("a", 2)]) })
}

/// Of workers that somebody else starts nobody sees the exit.
fn external(world: u32) -> Rig {
    Rig::with(spec(world, vec![stage("a", 2)]))
}

/// The samples of the surviving steps.
fn committed(rig: &Rig) -> Vec<Vec<String>> {
    let samples = |record: &&Record| match record {
        Record::Step(step) => Some(step.samples.clone()),
        _ => None,
    };
    records(&rig.done).iter().filter_map(samples).collect()
}

fn searched(rig: &Rig) -> bool {
    records(&rig.done).iter().any(|record| matches!(record, Record::Suspected(s) if s.searching))
}

#[test]
fn a_sample_on_which_workers_die_is_found_by_halving_and_every_other_sample_is_trained_on() {
    for (world, poison, step) in
        [(1, "1c", 1), (1, "1f", 1), (2, "1a", 1), (2, "1d", 1), (3, "1f", 1), (1, "2e", 2), (2, "2b", 2)]
    {
        for mut rig in [rig(world), external(world)] {
            let deaths = run(&mut rig, |_, order| orders_of(step, order).contains(&poison));
            assert_eq!(rig.outcome(), Some(Outcome::Finished), "{poison} in a world of {world}");
            assert!(deaths <= 2 + 3 + 1, "{deaths} deaths over {poison} in a world of {world}");
            let found: Vec<&str> =
                rig.engine.quarantined().iter().map(|found| found.sample.as_str()).collect();
            assert_eq!(found, [poison]);
            let all: Vec<String> = [ids(1), ids(2)].concat().into_iter().filter(|id| id != poison).collect();
            // A run that lost everything begins again: what counts is what came last.
            let committed = committed(&rig);
            assert_eq!(committed[committed.len() - 2..].concat(), all);
        }
    }
}

#[test]
fn a_quarantined_sample_is_named_by_the_verdict_and_a_search_says_what_it_does() {
    let mut rig = rig(1);
    let _ = run(&mut rig, |_, order| orders_of(1, order).contains(&"1c"));
    let said: Vec<String> = rig
        .done
        .iter()
        .filter_map(|command| match command {
            Command::Announce(verdict) => Some(verdict.to_string()),
            _ => None,
        })
        .collect();
    let says = |text: &str| said.iter().any(|verdict| verdict.contains(text));
    assert!(
        says("rollout of step 1 (stage a, 1 of 2, searching 6 samples for one that workers die of)"),
        "{said:#?}"
    );
    assert!(says("; in quarantine: 1c"), "{said:#?}");
}

#[test]
fn losses_over_samples_of_which_none_is_the_same_begin_no_search() {
    let mut rig = rig(2);
    let mut next = 0;
    let deaths = run(&mut rig, |rank, order| {
        let dies = rank == next && !orders_of(1, order).is_empty();
        next += u32::from(dies);
        dies
    });
    assert_eq!((deaths, searched(&rig)), (2, false));
    assert_eq!(committed(&rig), [ids(1), ids(2)]);
}

#[test]
fn a_search_that_clears_every_sample_ends_and_the_step_is_whole() {
    let mut rig = rig(1);
    let mut times = 0;
    let deaths = run(&mut rig, |_, order| {
        times += u32::from(!orders_of(1, order).is_empty());
        times <= 2 && !orders_of(1, order).is_empty()
    });
    assert_eq!((deaths, searched(&rig)), (2, true));
    assert!(rig.engine.quarantined().is_empty());
    assert_eq!(rig.engine.search(), None);
    assert_eq!(committed(&rig), [ids(1), ids(2)]);
}

#[test]
fn losses_that_bring_no_search_further_still_end_the_run() {
    let mut rig = rig(1);
    // As if each half were well and both together were not.
    let deaths = run(&mut rig, |_, order| orders_of(1, order).len() > 3);
    assert_eq!(deaths, 4, "two, a search that finds nobody, and two more");
    let (reason, code) = rig.failure();
    assert!(reason.contains("recovery.max_discards is 3"), "{reason}");
    assert_eq!(code, 1);
}

#[test]
fn another_coordinator_goes_on_with_the_search() {
    let mut rig = rig(1);
    let _ = run(&mut rig, |_, order| orders_of(1, order).contains(&"1f"));
    let journal: Vec<Record> = records(&rig.done).into_iter().cloned().collect();
    let resumed = |records: &[Record]| {
        let spec = Spec { term: 2, ..spec(1, vec![stage("a", 2)]) };
        Engine::resume(spec, Duration::ZERO, records)
    };
    let begun =
        journal.iter().position(|r| matches!(r, Record::Suspected(s) if s.searching)).expect("a search");
    assert_eq!(resumed(&journal[..=begun]).search(), Some((1, 6)));
    let only = resumed(&journal[..=begun]).choice(1).only.expect("a probe");
    assert_eq!(only.into_iter().collect::<Vec<_>>(), ["1a", "1b", "1c"]);
    let whole = resumed(&journal);
    assert_eq!((whole.search(), whole.quarantined().len()), (None, 1));
    assert!(!whole.choice(1).holds("1f") && whole.choice(1).holds("1e"));
}

#[test]
fn work_that_failed_over_a_sample_is_tried_by_another_process() {
    let mut rig = rig(2);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(_))));
    let reason = "out of memory".to_owned();
    rig.say(1, Report::WorkFailed(proto::v1::WorkFailed { reason, wrong_input: false }));
    let out = rig.pass(seconds(2));
    assert!(out.contains(&Command::Restart { rank: 1 }), "{out:?}");
    assert!(rig.loss().ends_with("it cannot go on: out of memory"), "{}", rig.loss());
    let strikes = records(&out).iter().filter(|r| matches!(r, Record::Suspected(s) if !s.searching)).count();
    assert_eq!(strikes, 1);
}

#[test]
fn a_network_and_whoever_ends_a_worker_strike_no_sample() {
    let signs = [
        Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "reset".into() },
        Event::Exited { rank: 1, process: 101, exit: Exit::Code(255), last_lines: vec![] },
        Event::Exited { rank: 1, process: 101, exit: Exit::Signal(15), last_lines: vec![] },
    ];
    for sign in signs {
        let mut rig = rig(2);
        rig.run_until(|c| matches!(order(c), Some(Order::Update(_))));
        rig.event(sign);
        let out = rig.pass(seconds(3));
        assert!(records(&out).iter().any(|r| matches!(r, Record::Discarded(_))), "{out:?}");
        assert!(!records(&out).iter().any(|r| matches!(r, Record::Suspected(_))), "{out:?}");
    }
}

/// A share that is answered for is not what its worker dies of.
#[test]
fn a_worker_that_dies_after_its_answer_strikes_no_sample() {
    let mut rig = rig(2);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(_))));
    let ready = StepReady { step: 1, attempt: 1, finite: true, ..StepReady::default() };
    rig.say(1, Report::StepReady(ready));
    rig.event(Event::Exited { rank: 1, process: 101, exit: Exit::Signal(9), last_lines: vec![] });
    let out = rig.pass(seconds(1));
    assert!(!records(&out).iter().any(|r| matches!(r, Record::Suspected(_))), "{out:?}");
}

/// The link is at fault, not the samples.
#[test]
fn a_worker_whose_stream_ends_and_that_comes_back_has_struck_no_sample() {
    let mut rig = external(1);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 2));
    for _ in 0..2 {
        let incarnation = rig.sender(0).incarnation;
        rig.event(Event::Disconnected { rank: 0, incarnation, reason: "reset".into() });
        rig.pass(seconds(1));
        assert!(matches!(records(&rig.done).last(), Some(Record::Suspected(s)) if !s.samples.is_empty()));
        let held = Some(rig.engine.holding(0));
        let join = Join { run_id: "test".into(), held, ..join("1", 0) };
        let out = rig.event(Event::Joining { stream: 9, rank: 0, join });
        let taken_back = |record: &&Record| matches!(record, Record::Suspected(s) if s.samples.is_empty());
        assert!(records(&out).iter().any(taken_back), "{out:?}");
        rig.say(0, Report::StoreReady(StoreReady { address: "s:1".into() }));
        let out = rig.say(0, Report::Formed(Formed { held, mirrored: false }));
        rig.resume_until(&out, |c| matches!(order(c), Some(Order::Update(u)) if u.step == 2));
    }
    assert!(!searched(&rig));
}

/// A link that was down for a moment: they are back before it is concluded why their streams ended, or after.
#[test]
fn workers_whose_streams_end_together_and_that_come_back_have_struck_no_sample() {
    for away in [Duration::ZERO, seconds(1)] {
        let mut rig = external(2);
        rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 2));
        for rank in 0..2 {
            let incarnation = rig.sender(rank).incarnation;
            rig.event(Event::Disconnected { rank, incarnation, reason: "reset".into() });
        }
        rig.pass(away);
        for rank in 0..2 {
            let held = Some(rig.engine.holding(0));
            let join = Join { run_id: "test".into(), held, ..join("1", rank) };
            rig.event(Event::Joining { stream: 9, rank, join });
        }
        rig.pass(seconds(1));
        assert_eq!(rig.engine.verdict(rig.now).state, "forming");
        let last = records(&rig.done).into_iter().rev().find_map(|record| match record {
            Record::Suspected(suspects) => Some(suspects.samples.clone()),
            _ => None,
        });
        assert_eq!(last, (!away.is_zero()).then(Vec::new), "away for {away:?}");
    }
}
