//! Runs that go well.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{Scenario, wait_for};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_prpo_run_leaves_report_curves_completions_metrics_journal_and_checkpoints() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let ran = scenario.run(&[], &[]).expect(0);
    let steps = lines(&scenario.read("metrics.jsonl"));
    assert_eq!(steps.iter().map(|s| s["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(steps.iter().all(|s| s["metrics"]["reward"].is_f64() && s["metrics"]["kl"] == 0.1), "{steps:?}");
    // Two ranks report the learning rate as their share of the loss.
    assert!((steps[0]["loss"].as_f64().unwrap() - 2e-6).abs() < 1e-18);
    let evaluations = lines(&scenario.read("evaluations.jsonl"));
    let told: Vec<String> = evaluations
        .iter()
        .map(|e| format!("{} {} {}", e["set"].as_str().unwrap(), e["moment"].as_str().unwrap(), e["step"]))
        .collect();
    assert_eq!(
        told,
        [
            "validation before 0",
            "test before 0",
            "validation during 2",
            "validation during 4",
            "validation after 5",
            "test after 5"
        ]
    );
    assert!(evaluations.iter().all(|e| e["metrics"]["srcc"].is_f64() && e["metrics"]["format"] == 1.0));
    assert_eq!(lines(&scenario.read("completions.jsonl")).len(), 6);
    let checkpoints = scenario.run_folder().join("checkpoints");
    let mut names: Vec<_> =
        fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["explore-step-4", "explore-step-5", "latest"]);
    assert_eq!(fs::read_link(checkpoints.join("latest")).unwrap().to_str(), Some("explore-step-5"));
    let manifest = checkpoint::verify(&checkpoints.join("latest")).unwrap();
    assert_eq!((manifest.about["step"].as_str(), manifest.about["weights"].as_str()), ("5", "after 5"));
    for name in ["report.html", "curves.svg", "summary.json", "recipe.yaml", "logs/rank-1.attempt-1.log"] {
        assert!(!scenario.read(name).is_empty(), "{name}");
    }
    for word in ["SRCC", "PLCC", "report.html", "curves.svg", "completions", "explore-step-5"] {
        assert!(ran.stdout.contains(word), "{word} in:\n{}", ran.stdout);
    }
    let journal = rusqlite::Connection::open(scenario.run_folder().join("journal.sqlite")).unwrap();
    let count = |sql: &str| journal.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((count("SELECT count(*) FROM steps"), count("SELECT count(*) FROM rollouts")), (5, 20));
    let outcome: String = journal.query_row("SELECT outcome FROM run", [], |row| row.get(0)).unwrap();
    assert_eq!(outcome, "finished");
}

#[test]
fn vision_answers_and_prpo_follow_each_other_on_the_same_weights() {
    let scenario = Scenario::new(
        "{ name: see, kind: vision, steps: 2 }, { name: answer, kind: sft, steps: 2 }, { name: explore, steps: 2 }, \
         { name: stabilise, steps: 1, rollout: { responses: 2 }, objective: { iterations: 1 } }",
    );
    scenario.run(&[], &[]).expect(0);
    let steps = lines(&scenario.read("metrics.jsonl"));
    let stages: Vec<_> = steps.iter().map(|s| s["stage"].as_u64().unwrap()).collect();
    assert_eq!(stages, [0, 0, 1, 1, 2, 2, 3]);
    let tests: Vec<_> = lines(&scenario.read("evaluations.jsonl"))
        .iter()
        .filter(|e| e["set"] == "test")
        .map(|e| (e["stage"].as_u64().unwrap(), e["step"].as_u64().unwrap()))
        .collect();
    assert_eq!(tests, [(2, 4), (3, 7)], "at the start of the first prpo stage, and at the end");
    let vision = lines(&scenario.read("evaluations.jsonl")).into_iter().next().unwrap();
    assert!(vision["metrics"]["kind_accuracy"].is_f64() && vision["metrics"]["format"].is_null());
    for name in ["see-step-2", "answer-step-4", "explore-step-6", "stabilise-step-7"] {
        checkpoint::verify(&scenario.run_folder().join("checkpoints").join(name)).unwrap();
    }
}

#[test]
fn a_finished_runs_rollouts_are_scored_again_by_another_reward() {
    let scenario = Scenario::new("{ name: explore, steps: 2 }");
    scenario.run(&[], &[]).expect(0);
    let folder = scenario.run_folder();
    let scored = |more: &[&str]| {
        let output = Command::new(scenario.path("bin/coordinator"))
            .args(["rewards", "--run", folder.to_str().unwrap()])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lines(&String::from_utf8(output.stdout).unwrap())
    };
    let same = scored(&[]);
    assert_eq!(same.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for line in &same {
        let rewards: Vec<f64> = serde_json::from_value(line["recorded"]["rewards"].clone()).unwrap();
        let [accuracy, format] =
            ["accuracy", "format"].map(|key| serde_json::from_value::<Vec<f64>>(line[key].clone()).unwrap());
        assert_eq!(rewards.len(), 4 * 3);
        for (i, reward) in rewards.iter().enumerate() {
            assert!(
                (reward - accuracy[i] - format[i]).abs() < 1e-12,
                "its own reward gives what it gave: {line}"
            );
        }
    }
    let other = scored(&["--set", "reward.kind=visualquality_r1"]);
    assert!(other[0]["parts"].get("pairwise").is_none() && same[0]["parts"].get("pairwise").is_some());
}

#[test]
fn a_dry_run_shows_the_resolved_recipe_and_writes_nothing() {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let ran = scenario.run(&["--dry-run", "--set", "optimizer.lr=0.5"], &[]).expect(0);
    assert!(ran.stdout.contains("lr: 0.5"), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("stage explore: prpo, 5 steps of 4 samples; 12 training samples (3 steps an epoch)")
    );
    assert!(!scenario.run_folder().exists());
}

#[test]
fn status_tells_step_and_members_of_a_running_run() {
    let scenario = Scenario::new("{ name: explore, steps: 1000 }");
    let running = scenario.start(&[], &[("FAKE_DELAY_MS", "20")]);
    running.wait_for_steps(1);
    let ask = || -> Value {
        let output = Command::new(scenario.path("bin/coordinator"))
            .args(["status", "--json", "--output", scenario.run_folder().to_str().unwrap()])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    // It is renewed with the coordinator's clock.
    let status = wait_for("a step in the status", || Some(ask()).filter(|s| s["step"].as_u64() >= Some(1)));
    assert_eq!((status["state"].as_str(), status["stage"].as_str()), (Some("running"), Some("explore")));
    assert_eq!(status["members"][1]["state"], "active");
    let people = Command::new(scenario.path("bin/coordinator"))
        .args(["status", "--address", &running.address()])
        .output()
        .unwrap();
    let text = String::from_utf8(people.stdout).unwrap();
    assert!(text.contains("rank 1: active on here"), "{text}");
}
