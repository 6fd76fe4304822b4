//! The main job, small: pictures in, a checkpoint that transformers loads out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::scene::{NO_EVALUATION, Scene, Start};
use tests::{script, succeed, text};

const STAGES: &str = "{ name: see, kind: vision, steps: 2 }, { name: answer, kind: sft, steps: 2 }, \
                      { name: explore, kind: prpo, steps: 2 }";

#[test]
fn a_run_goes_through_its_stages_and_its_checkpoint_is_transformers() {
    let scene = Scene::new(Start::Fresh, STAGES);
    let ended = scene.run(&[]).with(0);
    for word in ["format rate", "mean reward", "report.html", "curves.svg", "explore-step-6"] {
        assert!(ended.stdout.contains(word), "{word} is not in\n{}", ended.stdout);
    }
    lines_say_what_happened(&scene);
    people_find_a_report(&scene);
    let journal = scene.run_folder().join("journal.sqlite");
    let journal = rusqlite::Connection::open(journal).unwrap();
    let ask = |sql: &str| journal.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(ask("SELECT count(*) FROM steps"), 6);
    assert_eq!(ask("SELECT count(*) FROM run WHERE outcome = 'finished'"), 1);
    let latest = scene.run_folder().join("checkpoints/latest");
    assert_eq!(checkpoint::verify(&latest).unwrap().about["step"], "6");
    transformers_agrees(&scene, &latest);
}

fn lines_say_what_happened(scene: &Scene) {
    let steps = scene.lines("metrics.jsonl");
    let stages: Vec<u64> = steps.iter().map(|step| step["stage"].as_u64().unwrap()).collect();
    assert_eq!(stages, [0, 0, 1, 1, 2, 2]);
    assert!(steps.iter().all(|step| step["loss"].is_f64() && step["grad_norm"].as_f64().unwrap() > 0.0));
    let answers = scene.lines("completions.jsonl");
    assert_eq!(answers.len(), 9, "the test pictures after the last stage");
    assert!(answers.iter().all(|answer| answer["text"].is_string() && answer["mos"].is_f64()));
    let summary: Value = serde_json::from_str(&scene.read("summary.json")).unwrap();
    assert_eq!((&summary["outcome"], &summary["steps"]), (&json!("finished"), &json!(6)));
    assert!(summary["sets"][0]["before"]["metrics"]["reward"].is_f64());
    assert!(summary["sets"][0]["after"]["metrics"]["reward"].is_f64());
}

fn people_find_a_report(scene: &Scene) {
    let (page, curves) = (scene.read("report.html"), scene.read("curves.svg"));
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(curves.starts_with("<svg") && curves.ends_with("</svg>\n") && !curves.contains("NaN"));
    let recipe = scene.run_folder().join("recipe.yaml");
    let (hosts, output) = (scene.text("hosts.yaml"), scene.text("again"));
    let recipe = ["--recipe", text(&recipe), "--nodes", &hosts, "--output", &output, "--dry-run"];
    let resolved = succeed("coordinator", &recipe);
    assert!(resolved.contains("name: explore"), "the resolved recipe is a recipe:\n{resolved}");
}

/// 112 × 112 needs no resampling.
fn transformers_agrees(scene: &Scene, model: &Path) {
    let [requests, ours, theirs] = ["requests.jsonl", "ours.jsonl", "theirs.jsonl"].map(|n| scene.text(n));
    let image = &scene.lines("completions.jsonl")[0]["media"][0];
    let request =
        json!({"id": "a", "images": [image], "prompt": "How good?", "completion": "<think> blur </think>"});
    fs::write(&requests, request.to_string()).unwrap();
    let _ = succeed("worker", &["logprobs", "--model", text(model), "--input", &requests, "--output", &ours]);
    let _ = script("reference.py", &[text(model), &requests, &theirs]);
    let [ours, theirs] = [ours, theirs].map(|path| -> Value {
        serde_json::from_str(fs::read_to_string(path).unwrap().lines().next().unwrap()).unwrap()
    });
    assert_eq!(ours["completion_ids"], theirs["completion_ids"]);
    let [ours, theirs] = [ours, theirs].map(|line| {
        line["logprobs"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>()
    });
    let apart = ours.iter().zip(&theirs).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
    assert!(ours.len() > 3 && apart < 1e-4, "{apart} apart: {ours:?}, {theirs:?}");
}

#[test]
fn a_run_with_the_same_seed_takes_the_same_steps_to_the_bit() {
    let stages = "{ name: answer, kind: sft, steps: 2 }, { name: explore, kind: prpo, steps: 2 }";
    let scene = Scene::new(Start::Fresh, stages);
    let steps = |output: &str, seed: &str| {
        let output = scene.text(output);
        let arguments = ["--output", output.as_str(), "--set", seed];
        let _ = scene.run(&[arguments.as_slice(), &NO_EVALUATION].concat()).with(0);
        let metrics = fs::read_to_string(Path::new(&output).join("metrics.jsonl")).unwrap();
        let steps = metrics.lines().map(|line| {
            let mut step: Value = serde_json::from_str(line).unwrap();
            step["seconds"].take();
            for measured in ["max_peak_bytes", "max_wait_seconds", "max_silent_seconds", "sent_on_the_wire"] {
                step["metrics"][measured].take();
            }
            step.to_string()
        });
        steps.collect::<Vec<_>>()
    };
    let first = steps("first", "run.seed=5");
    assert_eq!(first.len(), 4);
    assert_eq!(first, steps("second", "run.seed=5"));
    assert_ne!(first, steps("third", "run.seed=6"));
}
