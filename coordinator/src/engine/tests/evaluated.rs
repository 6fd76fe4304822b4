use super::*;

fn evaluated(ids: &[&str]) -> Report {
    let samples = ids.iter().map(|id| SampleRollout { sample_id: (*id).into(), ..SampleRollout::default() });
    Report::Evaluated(Evaluated { step: 0, samples: samples.collect() })
}

#[test]
fn an_answer_to_the_evaluation_before_does_not_count_for_this_one() {
    let spec = StageSpec { validation: true, test_before: true, ..stage("a", 1) };
    let mut rig = Rig::new(1, vec![spec]);
    rig.run_until(|c| matches!(c, Command::PlanEvaluation { set: EvaluationSet::Test, .. }));
    let out = rig.event(Event::EvaluationPlanned {
        epoch: 1,
        samples: [(0, vec![Sample { id: "test1".into(), ..Sample::default() }])].into(),
        sampling: Sampling::default(),
    });
    assert!(out.iter().any(|c| matches!(order(c), Some(Order::Evaluate(_)))));
    let is_score = |c: &Command| matches!(c, Command::ScoreEvaluation { .. });
    assert!(!rig.say(0, evaluated(&["validation1"])).iter().any(is_score));
    assert!(rig.say(0, evaluated(&["test1"])).iter().any(is_score));
}

#[test]
fn an_evaluation_that_says_so_ends_its_stage_and_the_next_one_begins() {
    let spec = StageSpec { validation: true, evaluate_every: 1, ..stage("a", 4) };
    let mut rig = Rig::new(1, vec![spec, stage("b", 1)]);
    let during = |c: &Command| matches!(c, Command::ScoreEvaluation { moment: Moment::During, .. });
    rig.run_until(during);
    let metrics = BTreeMap::from([("srcc".to_owned(), 0.1), ("early_stop".to_owned(), 1.0)]);
    let out = rig.event(Event::EvaluationScored { epoch: 1, metrics });
    rig.resume_until(&out, |_| false);
    assert_eq!(rig.outcome(), Some(Outcome::Finished));
    let steps = rig.done.iter().filter_map(|c| match c {
        Command::Plan { stage, number, .. } => Some((*stage, *number)),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), [(0, 1), (1, 1)]);
}
