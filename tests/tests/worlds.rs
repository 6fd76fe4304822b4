//! The same steps on one to four workers, under every sharding, through `coordinator update`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::weights::WeightFiles;
use serde_json::{Value, json};
use tests::{fail, script, succeed, text};

const SHARDINGS: [&str; 4] = ["replicate", "optimizer", "full", "hybrid"];

/// A tiny model, three samples with recorded rollouts, one of them without a picture.
struct Setting {
    folder: tempfile::TempDir,
}

/// What a command left: its weights, and the gradient's norm of every step.
struct Outcome {
    weights: BTreeMap<String, Vec<f32>>,
    norms: Vec<f64>,
    last: Value,
}

impl Setting {
    fn new() -> Self {
        let setting = Self { folder: tempfile::tempdir().unwrap() };
        let model = ["--layers", "2", "--vision-depth", "2", "--hidden", "32", "--seed", "21"];
        script("make_tiny_model.py", &[&[text(&setting.path("model"))], model.as_slice()].concat());
        script("pictures.py", &[text(setting.folder.path()), "21", "56x56", "84x56"]);
        let lines: Vec<String> = (0..9).map(|n| setting.rollout(n).to_string()).collect();
        fs::write(setting.path("rollouts.jsonl"), lines.join("\n")).unwrap();
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Response `n` of three samples' in turn.
    fn rollout(&self, n: usize) -> Value {
        let sample = n % 3;
        let pictures = [vec!["0.png"], vec![], vec!["1.jpg"]][sample].clone();
        let images: Vec<_> = pictures.iter().map(|name| text(&self.path(name)).to_owned()).collect();
        let ids: Vec<u32> = (0..3 + n % 4).map(|t| (37 * n + 11 * t + 5) as u32 % 300).collect();
        json!({"id": format!("s{sample}"), "images": images, "prompt": format!("Rate picture {sample}."),
            "completion_ids": ids, "advantage": (n as f64 * 2.3).cos() * 1.5})
    }

    /// Workers on two hosts that are both this machine, one more on the first where their number is odd.
    fn hosts(&self, workers: u32) -> PathBuf {
        let path = self.path(&format!("hosts-{workers}.yaml"));
        let host = |(name, count): (&str, u32)| {
            (count > 0).then(|| format!("  - {{ name: {name}, workers: {count}, threads: 1 }}\n"))
        };
        let hosts: String =
            [("a", workers.div_ceil(2)), ("b", workers / 2)].into_iter().filter_map(host).collect();
        fs::write(&path, format!("launcher: local\nhosts:\n{hosts}")).unwrap();
        path
    }

    /// `coordinator update`.
    fn update(&self, workers: u32, sharding: &str, steps: u32, clip: f64) -> Outcome {
        let output = self.path(&format!("{sharding}-{workers}-{steps}-{clip}"));
        self.outcome(&output, self.step(&output, workers, sharding, steps, clip, &[]), steps)
    }

    /// What `coordinator update` with `more` arguments says.
    fn step(
        &self,
        output: &Path,
        workers: u32,
        sharding: &str,
        steps: u32,
        clip: f64,
        more: &[&str],
    ) -> Vec<Value> {
        let (hosts, rollouts, model) = (self.hosts(workers), self.path("rollouts.jsonl"), self.path("model"));
        let steps_text = steps.to_string();
        let files = ["--nodes", text(&hosts), "--rollouts", text(&rollouts), "--output", text(output)];
        let sets = [
            "model.dtype=float32".to_owned(),
            "optimizer.lr=1e-3".to_owned(),
            "optimizer.schedule=constant".to_owned(),
            // 0 switches clipping off.
            format!("optimizer.max_grad_norm={clip}"),
            // Several micro-batches a rank.
            "parallel.token_budget=80".to_owned(),
            format!("parallel.sharding={sharding}"),
        ];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
        let model = ["--model", text(&model), "--steps", &steps_text];
        let stdout = succeed("coordinator", &[["update"].as_slice(), &files, &model, more, &sets].concat());
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What was said and written.
    fn outcome(&self, output: &Path, mut lines: Vec<Value>, steps: u32) -> Outcome {
        let last = lines.pop().unwrap();
        assert_eq!(lines.len(), steps as usize);
        Outcome {
            weights: weights(output),
            norms: lines.iter().map(|l| l["grad_norm"].as_f64().unwrap()).collect(),
            last,
        }
    }

    /// Holds every world and sharding to one worker that holds everything.
    fn assert_exact(&self, worlds: &[(&str, u32)], steps: u32, clip: f64, bound: f64) {
        let (start, one) = (weights(&self.path("model")), self.update(1, "replicate", steps, clip));
        for (sharding, workers) in worlds {
            let other = self.update(*workers, sharding, steps, clip);
            let apart = apart(&one.weights, &other.weights) / apart(&start, &one.weights);
            assert!(apart <= bound, "{sharding} on {workers} after {steps}: {apart:e} of a step");
            // Later norms follow weights that differ by rounding already.
            let norm = (other.norms[0] / one.norms[0] - 1.0).abs();
            assert!(norm <= 1e-6, "{sharding} on {workers}: norm off by {norm:e}");
            assert_eq!(other.last["tokens"], one.last["tokens"]);
        }
    }
}

fn weights(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let files = WeightFiles::open(folder).unwrap();
    let floats =
        |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    files.names().map(|name| (name.to_owned(), floats(files.tensor(name).unwrap().bytes))).collect()
}

/// Sum of the absolute differences of all weights.
fn apart(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let differences = a.iter().flat_map(|(name, a)| a.iter().zip(&b[name]));
    differences.map(|(a, b)| f64::from(a - b).abs()).sum()
}

/// One worker as well as more, and a node of one.
fn every_world() -> Vec<(&'static str, u32)> {
    let worlds = SHARDINGS.into_iter().flat_map(|sharding| (1..=4).map(move |workers| (sharding, workers)));
    worlds.filter(|world| *world != ("replicate", 1)).collect()
}

#[test]
fn a_step_is_the_same_on_one_to_four_workers_under_every_sharding() {
    let setting = Setting::new();
    setting.assert_exact(&every_world(), 1, 0.05, 1e-4);
    setting.assert_exact(&[("replicate", 2), ("optimizer", 3), ("full", 4), ("hybrid", 4)], 1, 0.0, 1e-4);
}

#[test]
fn five_steps_are_the_same_on_one_to_four_workers_under_every_sharding() {
    Setting::new().assert_exact(&every_world(), 5, 0.0, 1e-2);
}

/// One step on four workers whose state is kept, then steps on others from it.
struct Going<'a> {
    setting: &'a Setting,
    sharding: &'static str,
    state: PathBuf,
}

impl<'a> Going<'a> {
    fn begin(setting: &'a Setting, sharding: &'static str) -> Self {
        let state = setting.path(&format!("{sharding}-state"));
        setting.step(&state, 4, sharding, 1, 0.05, &["--state"]);
        Self { setting, sharding, state }
    }

    fn on(&self, workers: u32, sharding: &str, steps: u32) -> Outcome {
        let output = self.setting.path(&format!("{}-then-{sharding}-{workers}-{steps}", self.sharding));
        let from = ["--resume-from", text(&self.state)];
        let lines = self.setting.step(&output, workers, sharding, steps, 0.05, &from);
        // Steps count on.
        assert_eq!(lines[0]["step"], 2);
        self.setting.outcome(&output, lines, steps)
    }

    /// Holds what went on to steps that were never stopped.
    fn assert_follows(&self, never: &Outcome, other: &Outcome, bound: f64) {
        let apart = apart(&never.weights, &other.weights) / apart(&weights(&self.state), &never.weights);
        let case = format!("{} after {} steps", self.sharding, other.norms.len());
        assert!(apart <= bound, "{case}: {apart:e} of a step");
        let norm = (other.norms[0] / never.norms[1] - 1.0).abs();
        assert!(norm <= 1e-6, "{case}: norm off by {norm:e}");
    }
}

#[test]
fn a_state_of_four_workers_goes_on_on_three_as_if_never_stopped() {
    let setting = Setting::new();
    for sharding in SHARDINGS {
        let going = Going::begin(&setting, sharding);
        for (steps, bound) in [(1, 1e-4), (5, 1e-2)] {
            let never = setting.update(4, sharding, 1 + steps, 0.05);
            going.assert_follows(&never, &going.on(3, sharding, steps), bound);
        }
    }
}

#[test]
fn a_state_goes_on_bit_for_bit_on_the_same_workers_and_under_another_sharding_within_rounding() {
    let setting = Setting::new();
    for (sharding, then) in SHARDINGS.into_iter().zip(["full", "hybrid", "replicate", "optimizer"]) {
        let (going, never) = (Going::begin(&setting, sharding), setting.update(4, sharding, 3, 0.05));
        let again = going.on(4, sharding, 2);
        assert!(again.weights == never.weights, "{sharding}: not the same bits");
        assert_eq!(again.norms, never.norms[1..]);
        going.assert_follows(&never, &going.on(2, then, 2), 1e-2);
    }
}

#[test]
fn a_state_that_is_damaged_or_of_another_optimizer_model_or_kind_is_refused() {
    let setting = Setting::new();
    let going = Going::begin(&setting, "full");
    let (hosts, rollouts, output) = (setting.hosts(1), setting.path("rollouts.jsonl"), setting.path("none"));
    let refused = |model: &str, from: &Path, set: &str| {
        let (model, dtype) = (setting.path(model), "model.dtype=float32");
        let files =
            ["update", "--nodes", text(&hosts), "--rollouts", text(&rollouts), "--output", text(&output)];
        let from = ["--model", text(&model), "--resume-from", text(from), "--set", dtype, "--set", set];
        let message = fail("coordinator", &[files.as_slice(), &from].concat(), 2);
        assert!(!output.exists());
        // What a worker finds is said after how far the world came.
        message.trim_end().lines().next_back().unwrap_or_default().to_owned()
    };
    let betas = refused("model", &going.state, "optimizer.betas=[0.9, 0.95]");
    assert!(betas.contains("optimizer.betas was [0.9,0.999]"), "{betas}");
    let trains = refused("model", &going.state, "model.trainable=language");
    assert!(trains.contains("another model or stage"), "{trains}");
    let other = ["--layers", "3", "--vision-depth", "2", "--hidden", "32", "--seed", "21"];
    script("make_tiny_model.py", &[&[text(&setting.path("other"))], other.as_slice()].concat());
    let other = refused("other", &going.state, "optimizer.lr=1e-3");
    assert!(other.contains("another model or stage"), "{other}");
    let plain = setting.path("plain");
    setting.step(&plain, 1, "full", 1, 0.05, &[]);
    let plain = refused("model", &plain, "optimizer.lr=1e-3");
    assert!(plain.contains("training_state.json"), "{plain}");
    let part = going.state.join("training_state-00002-of-00004.safetensors");
    let mut bytes = fs::read(&part).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&part, bytes).unwrap();
    let damaged = refused("model", &going.state, "optimizer.lr=1e-3");
    assert!(damaged.contains("00002-of-00004.safetensors: sha256 is"), "{damaged}");
    fs::remove_file(&part).unwrap();
    let missing = refused("model", &going.state, "optimizer.lr=1e-3");
    assert!(missing.contains("00002-of-00004.safetensors"), "{missing}");
}

#[test]
fn the_tool_on_one_model_goes_on_from_a_worlds_state_and_a_world_from_the_tools() {
    let setting = Setting::new();
    let going = Going::begin(&setting, "full");
    let [model, rollouts, alone] = ["model", "rollouts.jsonl", "alone"].map(|name| setting.path(name));
    let files = ["update", "--model", text(&model), "--rollouts", text(&rollouts), "--output", text(&alone)];
    let sets = ["model.dtype=float32", "optimizer.lr=1e-3", "optimizer.schedule=constant"];
    let mut sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    sets.extend(["--set", "optimizer.max_grad_norm=0.05", "--set", "parallel.token_budget=80"]);
    let state = ["--resume-from", text(&going.state), "--state"];
    succeed("worker", &[files.as_slice(), &state, &sets].concat());
    let two = setting.update(4, "full", 2, 0.05);
    assert!(apart(&two.weights, &weights(&alone)) <= 1e-4 * apart(&weights(&going.state), &two.weights));
    let back = setting.path("back");
    let lines = setting.step(&back, 2, "optimizer", 1, 0.05, &["--resume-from", text(&alone)]);
    assert_eq!(lines[0]["step"], 3);
    let three = setting.update(4, "full", 3, 0.05);
    assert!(apart(&three.weights, &weights(&back)) <= 1e-2 * apart(&two.weights, &three.weights));
}

#[test]
fn a_world_steps_as_the_tool_on_one_model_does() {
    let setting = Setting::new();
    let world = setting.update(2, "full", 2, 1.0);
    let [model, rollouts, output] = ["model", "rollouts.jsonl", "alone"].map(|name| setting.path(name));
    let files = ["update", "--model", text(&model), "--rollouts", text(&rollouts), "--output", text(&output)];
    let sets = [
        "--set",
        "model.dtype=float32",
        "--set",
        "optimizer.lr=1e-3",
        "--set",
        "optimizer.schedule=constant",
    ];
    let stdout = succeed("worker", &[files.as_slice(), &["--steps", "2"], &sets].concat());
    let alone: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&world.last), keys(&alone));
    assert_eq!(world.last["tokens"], alone["tokens"]);
    for name in ["loss", "kl", "grad_norm"] {
        let [ours, theirs] = [&world.last, &alone].map(|line| line[name].as_f64().unwrap());
        assert!((ours - theirs).abs() <= 1e-3 * theirs.abs() + 1e-6, "{name}: {ours} and {theirs}");
    }
    let (start, alone) = (weights(&setting.path("model")), weights(&output));
    assert!(apart(&world.weights, &alone) <= 1e-3 * apart(&start, &alone));
}

#[test]
fn wrong_input_is_one_line_and_leaves_nothing() {
    let setting = Setting::new();
    let (hosts, model, output) = (setting.hosts(1), setting.path("model"), setting.path("none"));
    let run = |rollouts: &str| {
        let path = setting.path("wrong.jsonl");
        fs::write(&path, rollouts).unwrap();
        let files = ["update", "--nodes", text(&hosts), "--rollouts", text(&path), "--output", text(&output)];
        let message = fail("coordinator", &[files.as_slice(), &["--model", text(&model)]].concat(), 2);
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        assert!(!output.exists());
        message
    };
    assert!(run("{\"id\": \"a\"}").contains("wrong.jsonl:1: missing field `prompt`"));
    assert!(run("").contains("holds no rollout"));
}
