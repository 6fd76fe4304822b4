use super::*;

fn at_rollout() -> Rig {
    let mut rig = Rig::new(2, vec![stage("a", 2)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(_))));
    rig
}

fn rollouts(step: u64, attempt: u32) -> Report {
    Report::RolloutsReady(RolloutsReady { step, attempt, samples: vec![] })
}

fn is_score(c: &Command) -> bool {
    matches!(c, Command::Score { .. })
}

#[test]
fn scoring_waits_for_every_rank() {
    let mut rig = at_rollout();
    assert!(!rig.say(0, rollouts(1, 1)).iter().any(is_score));
    assert!(!rig.say(0, rollouts(1, 1)).iter().any(is_score), "a duplicate is not another rank");
    assert!(rig.say(1, rollouts(1, 1)).iter().any(is_score));
}

#[test]
fn responses_that_are_drawn_again_are_waited_for_and_scored_once_more() {
    let mut rig = at_rollout();
    rig.say(0, rollouts(1, 1));
    rig.say(1, rollouts(1, 1));
    let sample = Sample { id: "1b".into(), ..Sample::default() };
    let work = RolloutWork { samples: [(1, vec![sample])].into(), sampling: Sampling::default() };
    let out = rig.event(Event::Scored { step: 1, attempt: 1, plan: Plan::Rollout(work) });
    let shares: Vec<usize> = out
        .iter()
        .filter_map(|c| match order(c) {
            Some(Order::Rollout(rollout)) => Some(rollout.samples.len()),
            _ => None,
        })
        .collect();
    assert_eq!(shares, [0, 1]);
    assert!(!rig.say(1, rollouts(1, 1)).iter().any(is_score));
    assert!(rig.say(0, rollouts(1, 1)).iter().any(is_score));
}

#[test]
fn rollouts_of_another_step_attempt_epoch_term_or_incarnation_are_dropped() {
    let mut rig = at_rollout();
    rig.say(0, rollouts(1, 1));
    rig.say(1, rollouts(2, 1));
    rig.say(1, rollouts(1, 2));
    let good = rig.sender(1);
    for sender in [
        Sender { epoch: 0, ..good },
        Sender { term: 2, ..good },
        Sender { incarnation: 9, ..good },
        Sender { rank: 7, ..good },
    ] {
        assert!(
            !rig.event(Event::Message { sender, body: rollouts(1, 1) }).iter().any(is_score),
            "{sender:?}"
        );
    }
    assert!(rig.say(1, rollouts(1, 1)).iter().any(is_score));
}

#[test]
fn a_picture_that_cannot_be_read_ends_the_run_as_wrong_input() {
    let mut rig = at_rollout();
    let sample = SampleRollout {
        sample_id: "I01".into(),
        error: "photos/I01.png: not a picture; expected PNG or JPEG".into(),
        ..SampleRollout::default()
    };
    let out = rig.say(0, Report::RolloutsReady(RolloutsReady { step: 1, attempt: 1, samples: vec![sample] }));
    rig.resume_until(&out, |_| false);
    let (reason, code) = rig.failure();
    assert_eq!(reason, "sample \"I01\": photos/I01.png: not a picture; expected PNG or JPEG");
    assert_eq!(code, 2);
}

#[test]
fn a_commit_is_on_disk_before_it_is_sent_and_only_once_every_rank_is_prepared() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(_))));
    let ready = |loss: f64| {
        Report::StepReady(StepReady {
            step: 1,
            attempt: 1,
            loss,
            grad_norm: 3.0,
            finite: true,
            metrics: [("tokens".to_owned(), 5.0)].into(),
        })
    };
    assert!(records(&rig.say(0, ready(0.25))).is_empty());
    let out = rig.say(1, ready(0.5));
    let journal = out.iter().position(|c| matches!(c, Command::Journal(Record::Step(_)))).expect("journaled");
    let sent: Vec<usize> =
        (0..out.len()).filter(|i| matches!(order(&out[*i]), Some(Order::Commit(c)) if !c.skip)).collect();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|i| *i > journal));
    let Record::Step(step) = records(&out)[0] else { panic!("expected a step") };
    assert_eq!((step.members.as_slice(), step.cursor.as_str()), ([0, 1].as_slice(), "cursor 1"));
    let metric = |name: &str| step.metrics[name];
    assert_eq!(
        (metric("loss"), metric("grad_norm"), metric("tokens"), metric("reward")),
        (0.75, 3.0, 10.0, 1.5)
    );
}

#[test]
fn a_step_that_is_not_finite_on_any_rank_is_committed_as_skipped_and_too_many_in_a_row_end_the_run() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    for step in 1..=2 {
        rig.run_until(|c| matches!(order(c), Some(Order::Update(_))));
        let ready = |finite| StepReady { step, attempt: 1, finite, ..StepReady::default() };
        rig.say(0, Report::StepReady(ready(true)));
        let out = rig.say(1, Report::StepReady(ready(false)));
        let Record::Step(record) = records(&out)[0] else { panic!("expected a step") };
        assert!(record.skip && record.step == step);
        rig.resume_until(&out, |c| matches!(order(c), Some(Order::Update(_))));
    }
    let (reason, code) = rig.failure();
    assert!(reason.starts_with("2 steps in a row were not finite (steps 1 to 2)"), "{reason}");
    assert_eq!(code, 1);
}
