//! What is drawn, against the distribution that transformers' filters leave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::json;
use tests::answers::{Completion, Generated, lines};
use tests::{script, succeed, text};

/// Responses a request: enough that a wrong filter, or filters in a wrong order, show.
const DRAWS: usize = 3000;

#[derive(Deserialize)]
struct Expected {
    id: String,
    probabilities: BTreeMap<u32, f64>,
}

#[test]
fn first_tokens_are_drawn_as_transformers_filters_leave_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [model, requests, theirs, ours, settings] =
        ["model", "requests.jsonl", "theirs.jsonl", "ours.jsonl", "settings.json"].map(path);
    script("make_tiny_model.py", &[text(&model), "--seed", "8"]);
    let prompt = |words: &str| json!({"id": words, "images": [], "prompt": words}).to_string();
    fs::write(&requests, ["Rate it.", "good fair poor", "noise noise noise"].map(prompt).join("\n")).unwrap();
    // Each filter changes the outcome, and so does their order.
    for (temperature, top_k, top_p, min_p, penalty) in [
        (0.8, 12, 1.0, 0.0, 1.0),
        (1.5, 0, 0.6, 0.0, 1.0),
        (0.7, 40, 0.9, 0.08, 1.0),
        (1.2, 30, 0.8, 0.1, 1.8),
    ] {
        let filters = json!({"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
            "repetition_penalty": penalty});
        fs::write(&settings, filters.to_string()).unwrap();
        script("first_token.py", &[&model, &requests, &theirs, &settings].map(|path| text(path)));
        let draws = DRAWS.to_string();
        let numbers = [temperature, f64::from(top_k), top_p, min_p, penalty].map(|n| n.to_string());
        let names = ["--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty"];
        let filters = names.iter().zip(&numbers).flat_map(|(name, number)| [*name, number.as_str()]);
        let fixed =
            ["generate", "--model", text(&model), "--input", text(&requests), "--output", text(&ours)];
        let length = ["--responses", &draws, "--max-new-tokens", "1"];
        succeed("worker", &fixed.into_iter().chain(filters).chain(length).collect::<Vec<_>>());
        for (expected, generated) in lines::<Expected>(&theirs).iter().zip(lines::<Generated>(&ours)) {
            assert_eq!(expected.id, generated.id);
            compare(&expected.probabilities, &generated.completions);
        }
    }
}

/// No token outside the distribution, and each as often as five standard deviations allow.
fn compare(expected: &BTreeMap<u32, f64>, drawn: &[Completion]) {
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for completion in drawn {
        *counts.entry(completion.ids[0]).or_default() += 1.0;
    }
    let stray: Vec<_> = counts.keys().filter(|id| !expected.contains_key(id)).collect();
    assert!(stray.is_empty(), "{stray:?} cannot be drawn");
    for (id, p) in expected {
        let (n, count) = (DRAWS as f64, counts.get(id).copied().unwrap_or(0.0));
        let spread = (n * p * (1.0 - p)).sqrt();
        assert!((count - n * p).abs() <= 5.0 * spread + 1.0, "{id}: {count} of {DRAWS}, expected {}", n * p);
    }
}
