//! LoRA against PEFT on transformers: gradients and a step from the same adapters, and the adapters that we write.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use checkpoint::weights::WeightFiles;
use serde_json::{Value, json};
use tests::answers::{Scored, lines};
use tests::scene::{NO_EVALUATION, Scene, Start};
use tests::{fail, script, succeed, text};

/// A folder with a model, pictures, rollouts and adapters of PEFT's.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64, model: &[&str], targets: &[&str]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        let seed = seed.to_string();
        let [folder, adapter] = ["model", "adapter"].map(|name| world.text(name));
        script("make_tiny_model.py", &[&[folder.as_str(), "--seed", &seed], model].concat());
        script("pictures.py", &[&world.text(""), &seed, "112x112", "140x84"]);
        script("make_adapter.py", &[&[folder.as_str(), &adapter, "3", "6"], targets].concat());
        let rollouts: Vec<String> = (0..6).map(|n| world.rollout(n).to_string()).collect();
        fs::write(world.path("rollouts.jsonl"), rollouts.join("\n")).unwrap();
        let request = |n: usize| {
            json!({"id": n.to_string(), "images": [world.picture(n)], "prompt": "Rate it.", "completion": "think score excellent"})
                .to_string()
        };
        fs::write(world.path("requests.jsonl"), [request(0), request(1)].join("\n")).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        text(&self.path(name)).to_owned()
    }

    fn picture(&self, n: usize) -> String {
        self.text(["0.png", "1.jpg"][n % 2])
    }

    /// Response `n` of two samples' in turn; the second sample has no picture.
    fn rollout(&self, n: usize) -> Value {
        let sample = n % 2;
        let images = if sample == 0 { vec![self.picture(0)] } else { Vec::new() };
        let ids: Vec<u32> = (0..3 + n).map(|t| (37 * n + 11 * t + 5) as u32 % 300).collect();
        json!({"id": format!("s{sample}"), "images": images, "prompt": format!("Rate picture {sample}."),
            "completion_ids": ids, "advantage": (n as f64 * 2.3).cos() * 1.5})
    }

    fn tensors(&self, name: &str) -> WeightFiles {
        WeightFiles::open_file(&self.path(name)).unwrap()
    }

    /// A step from the adapters; the report.
    fn update(&self, targets: &str, reference: &str) -> Value {
        let (target, adapter) =
            (format!("model.lora.targets={targets}"), format!("model.lora.adapter={}", self.text("adapter")));
        let reference = format!("objective.reference={reference}");
        let sets = [
            "model.dtype=float32",
            "model.trainable=lora",
            "model.lora.rank=3",
            "model.lora.alpha=6",
            &target,
            &adapter,
            &reference,
            "optimizer.schedule=constant",
            "optimizer.lr=1e-3",
            "objective.beta=0.5",
        ];
        let places = [
            self.text("model"),
            self.text("rollouts.jsonl"),
            self.text("ours"),
            self.text("ours_gradients.safetensors"),
        ];
        let [model, rollouts, output, gradients] = places.each_ref().map(String::as_str);
        let fixed = [
            "update",
            "--model",
            model,
            "--rollouts",
            rollouts,
            "--output",
            output,
            "--gradients",
            gradients,
        ];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let stdout = succeed("worker", &[&fixed, sets.as_slice()].concat());
        serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
    }

    /// The same by PEFT and PyTorch.
    fn reference(&self, reference: &str) -> Value {
        let settings = json!({"lr": 1e-3, "loss": "sequence_mean", "beta": 0.5, "kl": "k3", "epsilon_low": 0.2, "epsilon_high": 0.2,
            "max_grad_norm": 1.0, "max_new_tokens": 32, "weight_decay": 0.0, "adapter": self.text("adapter"), "reference": reference});
        fs::write(self.path("settings.json"), settings.to_string()).unwrap();
        let names = [
            "model",
            "rollouts.jsonl",
            "theirs.json",
            "theirs.safetensors",
            "theirs_gradients.safetensors",
            "settings.json",
        ];
        let places = names.map(|name| self.text(name));
        script("reference_update.py", &places.each_ref().map(String::as_str));
        serde_json::from_str(&fs::read_to_string(self.path("theirs.json")).unwrap()).unwrap()
    }

    fn scored(&self, name: &str) -> Vec<Scored> {
        lines(&self.path(name))
    }
}

fn floats(files: &WeightFiles, name: &str) -> Vec<f64> {
    let view = files.tensor(name).unwrap_or_else(|| panic!("no tensor {name}"));
    view.bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most: f64, (x, y)| most.max((x - y).abs()))
}

/// Gradients, numbers and stepped adapters are PEFT's; the merged export scores as PEFT scores with our adapters.
fn check(world: &World, targets: &str, reference: &str) {
    let (ours, theirs) = (world.update(targets, reference), world.reference(reference));
    for key in ["loss", "kl", "grad_norm"] {
        let [a, b] = [&ours, &theirs].map(|report| report[key].as_f64().unwrap());
        assert!((a - b).abs() <= 1e-6 + 1e-4 * b.abs(), "{key}: {a} and {b}");
    }
    let (a, b) = (world.tensors("ours_gradients.safetensors"), world.tensors("theirs_gradients.safetensors"));
    assert!(a.names().eq(b.names()), "the same adapters, by PEFT's names");
    for name in b.names() {
        let (a, b) = (floats(&a, name), floats(&b, name));
        let largest = b.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        assert!(
            farthest(&a, &b) <= 1e-4 * largest,
            "gradient of {name}: {} apart, the largest is {largest}",
            farthest(&a, &b)
        );
    }
    let (a, b) =
        (world.tensors("ours/adapter/adapter_model.safetensors"), world.tensors("theirs.safetensors"));
    assert!(a.names().eq(b.names()), "the same adapters, by PEFT's names");
    let (mut apart, mut count) = (0.0, 0.0);
    for name in b.names() {
        let (a, b) = (floats(&a, name), floats(&b, name));
        apart += a.iter().zip(&b).map(|(x, y)| (x - y).abs()).sum::<f64>();
        count += a.len() as f64;
    }
    assert!(apart / count <= 0.01 * 1e-3, "adapters are {} apart on average, a step is 1e-3", apart / count);

    let [model, merged, requests] = ["model", "ours", "requests.jsonl"].map(|name| world.text(name));
    let [ours, peft, plain] = ["ours.jsonl", "peft.jsonl", "merged.jsonl"].map(|name| world.text(name));
    succeed("worker", &["logprobs", "--model", &merged, "--input", &requests, "--output", &ours]);
    script("reference.py", &[&model, &requests, &peft, "--adapter", &world.text("ours/adapter")]);
    script("reference.py", &[&merged, &requests, &plain]);
    for (name, other) in [("PEFT on the base", "peft.jsonl"), ("transformers on the export", "merged.jsonl")]
    {
        for (a, b) in world.scored("ours.jsonl").iter().zip(world.scored(other)) {
            assert!(
                farthest(&a.logprobs, &b.logprobs) <= 1e-4,
                "{name}: {}",
                farthest(&a.logprobs, &b.logprobs)
            );
        }
    }
}

#[test]
fn a_step_of_every_linear_adapter_is_pefts() {
    check(&World::new(31, &[], &["all-linear"]), "all-linear", "initial");
}

#[test]
fn a_step_of_named_adapters_held_to_the_base_is_pefts() {
    let world =
        World::new(32, &["--flat", "--untied"], &["q_proj", "up_proj", "qkv", "patch_embed.proj", "mlp.2"]);
    check(&world, "[q_proj, up_proj, qkv, patch_embed.proj, mlp.2]", "base");
}

#[test]
fn adapters_beside_the_weights_are_the_start_as_in_transformers() {
    let world = World::new(33, &[], &["all-linear"]);
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(world.path("adapter").join(file), world.path("model").join(file)).unwrap();
    }
    let [model, rollouts] = ["model", "rollouts.jsonl"].map(|name| world.text(name));
    let run = |output: &str, more: &[&str]| {
        let output = world.text(output);
        let fixed = ["update", "--model", &model, "--rollouts", &rollouts, "--output", &output];
        let sets = [
            "model.dtype=float32",
            "model.trainable=lora",
            "model.lora.targets=all-linear",
            "model.lora.alpha=6",
        ];
        let sets = sets.iter().chain(more).flat_map(|set| ["--set", set]);
        fixed.into_iter().map(str::to_owned).chain(sets.map(str::to_owned)).collect::<Vec<_>>()
    };
    let arguments = run("beside", &["model.lora.rank=3", "optimizer.lr=1e-30"]);
    succeed("worker", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (ours, start) = (
        world.tensors("beside/adapter/adapter_model.safetensors"),
        world.tensors("adapter/adapter_model.safetensors"),
    );
    assert!(start.names().all(|name| floats(&ours, name) == floats(&start, name)));

    let arguments = run("wrong", &["model.lora.rank=4"]);
    let said = fail("worker", &arguments.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(said.contains("r is 3, expected model.lora.rank 4: set model.lora.rank=3"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn a_run_over_two_workers_trains_adapters_and_publishes_them() {
    let stage = "{ name: look, kind: sft, steps: 1 }, { name: answer, kind: prpo, steps: 2 }";
    let scene = Scene::new(Start::Trained, stage);
    let sets = [
        "model.trainable=lora",
        "model.lora.targets=all-linear",
        "model.lora.dropout=0.1",
        "parallel.sharding=full",
        "objective.reference=base",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).chain(NO_EVALUATION).collect();
    let ended = scene.run(&sets);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let checkpoint = scene.run_folder().join("checkpoints/latest");
    let manifest = checkpoint::verify(&fs::canonicalize(&checkpoint).unwrap()).unwrap();
    assert!(manifest.files.contains_key("adapter/adapter_model.safetensors"), "{:?}", manifest.files.keys());
    let adapters = WeightFiles::open_file(&checkpoint.join("adapter/adapter_model.safetensors")).unwrap();
    let b = adapters.names().filter(|name| name.contains("lora_B"));
    assert!(
        b.map(|name| floats(&adapters, name)).any(|b| b.iter().any(|v| *v != 0.0)),
        "nothing was learned"
    );
}
