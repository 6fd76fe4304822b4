//! The numbers that the published code gives.
//!
//! `golden.jsonl` holds every third of the 240 batches described in docs/method.md: the outputs of the code of
//! PreResQ-R1 (DanceSkyCode/General-Visual-Quality-RL, MIT) and VisualQuality-R1 on CPU in f32. The tolerances
//! are those that come with the cases. `REWARD_GOLDEN=FILE` runs the same checks over another file of cases.

use reward::{Batch, Media, Scored, score};
use serde_json::Value;
use settings::{Reward, RewardKind};

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// A line of `golden.jsonl`, and what we give for it.
struct Case {
    line: usize,
    expected: Value,
    kind: String,
    responses: usize,
    scored: Scored,
}

fn cases() -> Vec<Case> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.jsonl");
    let file = std::env::var("REWARD_GOLDEN").unwrap_or_else(|_| default.into());
    let text = std::fs::read_to_string(file).expect("golden.jsonl");
    text.lines().enumerate().map(|(i, line)| case(i + 1, line)).collect()
}

fn case(line: usize, text: &str) -> Case {
    let expected: Value = serde_json::from_str(text).expect("JSON");
    let kind = expected["kind"].as_str().expect("kind").to_owned();
    let responses = expected["num_generations"].as_u64().expect("num_generations") as usize;
    let texts = expected["completions"].as_array().expect("completions").iter();
    let completions: Vec<String> = texts.map(|t| t.as_str().expect("a text").into()).collect();
    let mos = numbers(&expected["mos"]);
    let settings = Reward {
        kind: if kind == "visualquality_r1" { RewardKind::VisualQualityR1 } else { RewardKind::Prpo },
        ..Reward::default()
    };
    let media = if kind == "vqa" { Media::Video } else { Media::Image };
    let batch = Batch { media, responses, mos: &mos, completions: &completions };
    let scored = score(batch, &settings).expect("a batch");
    Case { line, expected, kind, responses, scored }
}

fn assert_close(case: &Case, what: &str, got: &[f64], expected: &Value, tolerance: f64) {
    let expected = numbers(expected);
    assert_eq!(got.len(), expected.len(), "line {}: {what}", case.line);
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!((g - e).abs() <= tolerance, "line {}: {what} {i} is {g}, expected {e}", case.line);
    }
}

#[test]
fn every_kind_has_cases() {
    let cases = cases();
    for kind in ["iqa", "vqa", "visualquality_r1"] {
        assert!(cases.iter().filter(|c| c.kind == kind).count() >= 20, "{kind}");
    }
}

#[test]
fn accuracy_and_format_are_those_of_the_published_code() {
    for case in &cases() {
        let tolerance = if case.kind == "visualquality_r1" { 1e-5 } else { 1e-6 };
        assert_close(case, "accuracy", &case.scored.accuracy, &case.expected["accuracy"], tolerance);
        assert_close(case, "format", &case.scored.format, &case.expected["format"], 0.0);
    }
}

#[test]
fn every_part_agrees_and_video_has_no_rank() {
    for case in cases().iter().filter(|c| c.kind != "visualquality_r1") {
        let parts = &case.scored.parts;
        let expected = &case.expected["parts"];
        for (name, values) in &parts.values {
            assert_close(case, name, values, &expected[name], 1e-5);
        }
        assert_eq!(parts.values.contains_key("rank"), case.kind == "iqa");
        assert_eq!(parts.values.len(), if case.kind == "iqa" { 5 } else { 4 });
        assert_close(case, "pred", &parts.pred, &expected["pred"], 1e-6);
        for (scores, expected) in parts.scores.iter().zip(expected["scores"].as_array().expect("scores")) {
            assert_close(case, "scores", scores, expected, 0.0);
        }
    }
}

#[test]
fn advantages_agree_where_the_group_has_a_spread() {
    for case in &cases() {
        let advantages = grpo::advantages(&case.scored.reward, case.responses, settings::Advantage::Std)
            .expect("groups of K")
            .values;
        let expected = numbers(&case.expected["advantages"]);
        let groups = case.scored.reward.chunks(case.responses);
        for (g, rewards) in groups.enumerate().filter(|(_, r)| grpo::spread(r) > 0.02) {
            for i in g * case.responses..g * case.responses + rewards.len() {
                let (got, expected) = (advantages[i], expected[i]);
                assert!((got - expected).abs() <= 1e-3, "line {}: {i} is {got}, not {expected}", case.line);
            }
        }
    }
}
