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
