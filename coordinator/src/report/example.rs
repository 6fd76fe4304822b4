//! Made-up lines for this module's tests.

use std::path::Path;

use settings::StageKind;

use super::{AnswerLine, EvaluationLine, Facts, StageFacts, StepLine, Writer};
use crate::engine::{EvaluationSet, Moment};

/// The facts of a run of one policy stage.
pub(super) fn facts() -> Facts {
    Facts {
        name: "made-up".into(),
        seed: 7,
        digest: "sha256:5d41402abc4b2a76b9719d911017c592".into(),
        recipe_yaml: "run:\n  name: made-up # <b>\n".into(),
        stages: vec![StageFacts { name: "prpo".into(), kind: StageKind::Prpo }],
        digests: vec![("train.jsonl".into(), "aa11".into())],
        quarantined: Vec::new(),
        checkpoint: None,
        outcome: "finished".into(),
    }
}

/// A step with every number that a policy stage has.
pub(super) fn step(step: u64, stage: usize) -> StepLine {
    let t = step as f64;
    let noise = |k: f64| (t * k).sin() * (t * 0.73 * k).cos();
    let rise = 1.0 - (-t / 25.0).exp();
    StepLine {
        step,
        stage,
        number: step,
        lr: short(3e-5 * (1.0 - t / 61.0)),
        loss: short(0.02 * noise(12.9) + 0.01 * (1.0 - rise)),
        grad_norm: short(1.2 + 0.5 * noise(7.7) - 0.4 * rise),
        finite: true,
        skipped: false,
        seconds: 2.5,
        metrics: [
            ("reward", 0.9 + 0.6 * rise + 0.12 * noise(9.1)),
            ("format", (0.7 + 0.3 * rise + 0.04 * noise(5.3)).min(1.0)),
            ("kl", 0.004 * rise * rise + 0.0004 * noise(3.1).abs()),
            ("response_tokens", 42.0 + 3.0 * noise(2.3)),
            ("zero_spread", (2.0 + 2.0 * noise(4.1)).round()),
        ]
        .map(|(name, value)| (name.to_owned(), short(value)))
        .into(),
    }
}

/// Few enough digits that JSON gives the same bits back.
fn short(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// An evaluation that gets better with its step.
pub(super) fn evaluation(step: u64, set: EvaluationSet, moment: Moment) -> EvaluationLine {
    let better = step as f64 / 125.0 + if set == EvaluationSet::Test { 0.01 } else { 0.0 };
    let metrics = [
        ("srcc", 0.3 + better),
        ("plcc", 0.33 + better),
        ("rmse", 1.1 - better),
        ("format", 0.9 + better / 6.0),
        ("reward", 1.0 + better),
        ("distinct_scores", 60.0 + step as f64),
    ];
    EvaluationLine {
        step,
        stage: 0,
        set,
        moment,
        samples: 120,
        metrics: metrics.map(|(name, value)| (name.to_owned(), short(value))).into(),
        seconds: 4.0,
    }
}

/// Answers with markup in one text and no score in another.
pub(super) fn answers(n: usize) -> Vec<AnswerLine> {
    (0..n)
        .map(|i| {
            let mos = 1.0 + 4.0 * (i as f64 * 0.618).fract();
            let error = 0.5 * (i as f64 * 1.7).sin();
            AnswerLine {
                set: EvaluationSet::Test,
                step: 60,
                sample_id: format!("kodim{i:02}-blur"),
                media: vec![format!("images/kodim{i:02}-blur.png")],
                mos,
                predicted: (i % 17 != 5).then_some((mos + error).clamp(1.0, 5.0)),
                format: i % 17 != 5,
                text: match i {
                    0 => "<think>\n</pre><script>alert('x')</script> sharp & clean</think>\n<answer>3.1</answer>".into(),
                    _ => format!("<think>Edges are soft, blocks are faint.</think>\n<answer>\n{mos:.2}\n</answer>"),
                },
            }
        })
        .collect()
}

/// A whole run of sixty steps.
pub(super) fn run(folder: &Path) {
    let mut writer = Writer::create(folder).expect("created");
    for number in 1..=60 {
        let mut line = step(number, 0);
        line.skipped = number == 31;
        writer.step(&line).expect("written");
    }
    use Moment::{After, Before, During};
    let moments = [(0, Before), (15, During), (30, During), (45, During), (60, After)];
    for (number, moment) in moments {
        writer.evaluation(&evaluation(number, EvaluationSet::Validation, moment)).expect("written");
        writer.completions(EvaluationSet::Validation, number, &answers(60)).expect("written");
    }
    for (number, moment) in [(0, Before), (60, After)] {
        writer.evaluation(&evaluation(number, EvaluationSet::Test, moment)).expect("written");
        let mut answers = answers(120);
        if number == 0 {
            answers
                .iter_mut()
                .for_each(|a| a.predicted = a.predicted.map(|p| 2.4 + 0.3 * (p * 9.0).sin() + 0.2 * p));
        }
        writer.completions(EvaluationSet::Test, number, &answers).expect("written");
    }
}
