//! `worker update` against transformers, the published loss and torch's AdamW, from the same recorded rollouts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use checkpoint::weights::WeightFiles;
use serde_json::{Value, json};
use tests::{fail, script, succeed, text};

/// A folder with a model, pictures and rollouts.
struct World {
    folder: tempfile::TempDir,
}

/// How a step is taken.
struct Case {
    seed: u64,
    model: &'static [&'static str],
    responses: usize,
    images: usize,
    /// Log-probabilities of the old and the reference policy are recorded.
    recorded: bool,
    settings: Value,
}

impl World {
    fn new(case: &Case) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        let seed = case.seed.to_string();
        let model = world.path("model");
        script("make_tiny_model.py", &[&[text(&model), "--seed", &seed], case.model].concat());
        script("pictures.py", &[text(world.folder.path()), &seed, "112x112", "140x84", "84x168", "112x56"]);
        let lines: Vec<String> =
            (0..2 * case.responses).map(|n| world.rollout(case, n).to_string()).collect();
        fs::write(world.path("rollouts.jsonl"), lines.join("\n")).unwrap();
        fs::write(world.path("settings.json"), case.settings.to_string()).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Response `n` of two samples' in turn, of 3 to 9 tokens.
    fn rollout(&self, case: &Case, n: usize) -> Value {
        let sample = n % 2;
        let file = |i: usize| text(&self.path(&format!("{i}.{}", ["png", "jpg"][i % 2]))).to_owned();
        let images: Vec<String> = (0..case.images).map(|i| file(2 * sample + i)).collect();
        let ids: Vec<u32> = (0..3 + n % 7).map(|t| (37 * n + 11 * t + 5) as u32 % 300).collect();
        let wave = |phase: f64| -> Vec<f64> {
            (0..ids.len()).map(|t| -3.0 + (n as f64 * 1.7 + t as f64 * phase).sin()).collect()
        };
        let mut line = json!({"id": format!("s{sample}"), "images": images, "prompt": format!("Rate picture {sample}."),
            "completion_ids": ids, "advantage": (n as f64 * 2.3).cos() * 1.5});
        if case.settings.get("importance_cap").is_some() {
            line["rollout_logprobs"] = json!(wave(0.4));
        }
        if case.recorded {
            line["old_logprobs"] = json!(wave(0.9));
            line["ref_logprobs"] = json!(wave(1.3));
        }
        line
    }

    fn tensors(&self, name: &str) -> WeightFiles {
        let path = self.path(name);
        if path.is_dir() { WeightFiles::open(&path).unwrap() } else { WeightFiles::open_file(&path).unwrap() }
    }
}

fn floats(files: &WeightFiles, name: &str) -> Vec<f64> {
    let view = files.tensor(name).unwrap_or_else(|| panic!("no tensor {name}"));
    view.bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

/// Each weight's values by our name and by transformers'.
fn pairs(ours: &WeightFiles, theirs: &WeightFiles) -> Vec<(String, Vec<f64>, Vec<f64>)> {
    let find = |name: &str| {
        let plain = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.");
        [name.to_owned(), plain].into_iter().find(|n| ours.tensor(n).is_some()).expect("the same weights")
    };
    theirs.names().map(|name| (name.to_owned(), floats(ours, &find(name)), floats(theirs, name))).collect()
}

fn check(case: &Case) {
    let world = World::new(case);
    let paths =
        ["model", "rollouts.jsonl", "theirs.json", "theirs.safetensors", "theirs_gradients.safetensors"]
            .map(|name| world.path(name));
    let settings = world.path("settings.json");
    let arguments: Vec<&str> = paths.iter().chain([&settings]).map(|path| text(path)).collect();
    script("reference_update.py", &arguments);
    let theirs: Value = serde_json::from_str(&fs::read_to_string(&paths[2]).unwrap()).unwrap();

    let of = |key: &str| case.settings[key].to_string().trim_matches('"').to_owned();
    let mut sets = vec!["model.dtype=float32".to_owned(), "optimizer.schedule=constant".to_owned()];
    for (section, keys) in [
        ("optimizer", ["lr", "max_grad_norm", "weight_decay"].as_slice()),
        ("objective", &["loss", "beta", "kl", "epsilon_low", "epsilon_high"]),
        ("rollout", &["max_new_tokens"]),
    ] {
        sets.extend(keys.iter().map(|key| format!("{section}.{key}={}", of(key))));
    }
    sets.extend(case.settings.get("importance_cap").map(|cap| format!("objective.importance_cap={cap}")));
    let steps = case.settings.get("steps").map_or("1".to_owned(), Value::to_string);
    let (output, gradients) = (world.path("ours"), world.path("ours_gradients.safetensors"));
    let fixed =
        ["update", "--model", text(&paths[0]), "--rollouts", text(&paths[1]), "--output", text(&output)];
    let sets = sets.iter().flat_map(|set| ["--set", set.as_str()]);
    let arguments: Vec<&str> =
        fixed.into_iter().chain(["--gradients", text(&gradients), "--steps", &steps]).chain(sets).collect();
    let stdout = succeed("worker", &arguments);
    let ours: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    compare(&ours, &theirs);
    for (name, a, b) in
        pairs(&world.tensors("ours_gradients.safetensors"), &world.tensors("theirs_gradients.safetensors"))
    {
        let largest = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let apart = a.iter().zip(&b).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()));
        assert!(apart <= 1e-4 * largest, "gradient of {name}: {apart} apart, the largest is {largest}");
    }
    let lr = case.settings["lr"].as_f64().unwrap();
    let (mut apart, mut count) = (0.0, 0.0);
    for (_, a, b) in pairs(&world.tensors("ours"), &world.tensors("theirs.safetensors")) {
        apart += a.iter().zip(&b).map(|(x, y)| (x - y).abs()).sum::<f64>();
        count += a.len() as f64;
    }
    assert!(apart / count <= 0.01 * lr, "weights are {} apart on average, a step is {lr}", apart / count);
}

fn compare(ours: &Value, theirs: &Value) {
    let [a, b] = [ours, theirs].map(|v| move |key: &str| v[key].as_f64().unwrap());
    assert_eq!(ours["tokens"], theirs["tokens"]);
    let bound = 1e-6 + 1e-5 * b("token_loss");
    assert!((a("loss") - b("loss")).abs() <= bound, "loss {} and {}", a("loss"), b("loss"));
    assert!((a("kl") - b("kl")).abs() <= 1e-4 * b("kl").abs(), "KL {} and {}", a("kl"), b("kl"));
    let (x, y) = (a("grad_norm"), b("grad_norm"));
    assert!((x - y).abs() <= 1e-5 * y, "gradient norm {x} and {y}");
}

fn settings(loss: &str, beta: f64, kl: &str, max_grad_norm: f64) -> Value {
    json!({"lr": 1e-3, "loss": loss, "beta": beta, "kl": kl, "epsilon_low": 0.2, "epsilon_high": 0.28,
        "max_grad_norm": max_grad_norm, "max_new_tokens": 32, "weight_decay": 0.0})
}

#[test]
fn a_step_with_recorded_policies_is_pytorchs() {
    let settings = settings("sequence_mean", 0.04, "k3", 1.0);
    check(&Case { seed: 11, model: &[], responses: 6, images: 1, recorded: true, settings });
}

#[test]
fn a_step_of_two_pictures_an_untied_head_and_no_kl_is_pytorchs() {
    let settings = settings("token_mean", 0.0, "k3", 0.05);
    let model = &["--untied", "--flat", "--shards", "3", "--kv-heads", "1"];
    check(&Case { seed: 12, model, responses: 2, images: 2, recorded: false, settings });
}

#[test]
fn a_step_without_pictures_or_clipping_is_pytorchs() {
    let settings = settings("fixed_length", 0.1, "k2", 0.0);
    check(&Case { seed: 13, model: &["--hidden", "96"], responses: 8, images: 0, recorded: true, settings });
}

#[test]
fn the_first_step_from_its_own_reference_is_pytorchs() {
    let settings = settings("sequence_mean", 0.5, "k1", 1.0);
    check(&Case { seed: 14, model: &[], responses: 3, images: 1, recorded: false, settings });
}

#[test]
fn a_step_with_truncated_importance_weights_is_pytorchs() {
    for (seed, recorded) in [(16, true), (17, false)] {
        let mut settings = settings("sequence_mean", 0.04, "k3", 1.0);
        settings["importance_cap"] = json!(1.5);
        check(&Case { seed, model: &[], responses: 4, images: 1, recorded, settings });
    }
}

#[test]
fn a_second_iteration_on_stored_log_probabilities_is_pytorchs() {
    let mut settings = settings("token_mean", 0.04, "k3", 1.0);
    settings["steps"] = json!(2);
    // Small enough that signs of tiny gradients in the first step do not show in the second.
    settings["lr"] = json!(1e-5);
    check(&Case { seed: 18, model: &[], responses: 4, images: 1, recorded: true, settings });
}

#[test]
fn wrong_rollouts_are_one_line_and_leave_nothing() {
    let case = Case { seed: 15, model: &[], responses: 2, images: 0, recorded: false, settings: json!({}) };
    let world = World::new(&case);
    let run = |rollouts: &str, more: &[&str]| {
        fs::write(world.path("rollouts.jsonl"), rollouts).unwrap();
        let paths = ["model", "rollouts.jsonl", "ours"].map(|name| world.path(name));
        let fixed = [
            "update",
            "--model",
            text(&paths[0]),
            "--rollouts",
            text(&paths[1]),
            "--output",
            text(&paths[2]),
        ];
        let message = fail("worker", &[&fixed, more].concat(), 2);
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        assert!(!world.path("ours").exists() && !world.path("ours.partial").exists());
        message
    };
    let line = |ids: &str| {
        format!("{{\"id\": \"a\", \"prompt\": \"p\", \"completion_ids\": {ids}, \"advantage\": 1}}")
    };
    assert!(
        run("{\"id\": \"a\", \"prompt\": \"p\"}", &[])
            .contains("rollouts.jsonl:1: missing field `completion_ids`")
    );
    assert!(run(&line("[]"), &[]).contains("no tokens"));
    assert!(run(&line("[999999]"), &[]).contains("outside the vocabulary"));
    assert!(run("", &[]).contains("rollouts.jsonl"));
    assert!(run(&line("[1]"), &["--set", "optimizer.rate=1"]).contains("optimizer.rate"));
}
