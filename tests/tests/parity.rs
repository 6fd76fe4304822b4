//! The model against transformers, on tiny models made for the purpose (tests/python/make_tiny_model.py): values,
//! gradients and greedy tokens. The models are sharp: a wrong rotation, mask or activation moves log-probabilities by
//! 6e-4 and more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use checkpoint::weights::WeightFiles;
use serde::Deserialize;
use serde_json::{Value, json};
use tests::answers::{Generated, Scored, lines};
use tests::{fail, script, succeed};

/// A folder with a model, pictures and requests.
struct World {
    folder: tempfile::TempDir,
}

/// Sizes that the processor leaves as they are, then some that it must resize.
const SIZES: [&str; 8] = ["112x112", "140x84", "168x252", "196x280", "252x56", "77x61", "211x133", "500x333"];

impl World {
    fn new(seed: u64, model: &[&str]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        let seed = seed.to_string();
        script("make_tiny_model.py", &[&[world.text("model").as_str(), "--seed", &seed], model].concat());
        let folder = world.text("");
        script("pictures.py", &[&[folder.as_str(), &seed], SIZES.as_slice()].concat());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Requests of pictures (by number), prompt and completion.
    fn write(&self, requests: &[(&[usize], &str, &str)]) {
        let line = |(number, (pictures, prompt, completion)): (usize, &(&[usize], &str, &str))| {
            let file = |&p: &usize| self.text(&format!("{p}.{}", if p % 2 == 1 { "jpg" } else { "png" }));
            let images: Vec<String> = pictures.iter().map(file).collect();
            json!({"id": format!("r{number}"), "images": images, "prompt": prompt, "completion": completion})
                .to_string()
        };
        let lines: Vec<String> = requests.iter().enumerate().map(line).collect();
        std::fs::write(self.path("requests.jsonl"), lines.join("\n")).unwrap();
    }

    fn reference(&self, output: &str, more: &[&str]) -> Vec<Scored> {
        let [model, requests, to] = ["model", "requests.jsonl", output].map(|name| self.text(name));
        script("reference.py", &[&[model.as_str(), &requests, &to], more].concat());
        lines(&self.path(output))
    }

    fn worker<T: for<'a> Deserialize<'a>>(&self, command: &str, output: &str, more: &[&str]) -> Vec<T> {
        let [model, input, to] = ["model", "requests.jsonl", output].map(|name| self.text(name));
        let fixed = [command, "--model", &model, "--input", &input, "--output", &to];
        succeed("worker", &[fixed.as_slice(), more].concat());
        lines(&self.path(output))
    }
}

/// Ids and prompt lengths equal; the largest difference of a log-probability.
fn largest_difference(ours: &[Scored], theirs: &[Scored]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let mut largest: f64 = 0.0;
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!((&a.id, a.prompt_tokens, &a.completion_ids), (&b.id, b.prompt_tokens, &b.completion_ids));
        assert_eq!(a.logprobs.len(), b.logprobs.len());
        let differences = a.logprobs.iter().zip(&b.logprobs).map(|(x, y)| (x - y).abs());
        largest = differences.fold(largest, f64::max);
    }
    largest
}

fn mean_difference(ours: &[Scored], theirs: &[Scored]) -> f64 {
    let flat = |scored: &[Scored]| -> Vec<f64> { scored.iter().flat_map(|s| s.logprobs.clone()).collect() };
    let (a, b) = (flat(ours), flat(theirs));
    a.iter().zip(&b).map(|(x, y)| (x - y).abs()).sum::<f64>() / a.len() as f64
}

fn floats(files: &WeightFiles, name: &str) -> Vec<f32> {
    let view = files.tensor(name).unwrap_or_else(|| panic!("no gradient of {name}"));
    view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Every weight's gradient within 1e-4 of that weight's largest.
fn compare_gradients(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (WeightFiles::open_file(ours).unwrap(), WeightFiles::open_file(theirs).unwrap());
    assert_eq!(ours.names().count(), theirs.names().count());
    for name in theirs.names() {
        let published = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.");
        let (a, b) = (floats(&ours, &published), floats(&theirs, name));
        let largest = b.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        let apart = a.iter().zip(&b).fold(0.0, |m: f32, (x, y)| m.max((x - y).abs()));
        assert!(apart <= 1e-4 * largest, "gradient of {name}: {apart} apart, the largest is {largest}");
    }
}

const MANY: [(&[usize], &str, &str); 7] = [
    (&[3], "Describe the image quality.", "<think> sharpness good </think>\n<answer>\n3.21\n</answer>"),
    (&[], "No picture, only text: 数字 é 😀", "the of and is 4.5"),
    (&[1, 2], "Compare them.", "blur noise edge"),
    (&[4, 3, 0], "Rate!", "fair 2.0"),
    (&[0, 1, 2, 4], "x", "poor"),
    (&[5], "Too small to stay as it is.", "good"),
    (&[6, 7], "Two of odd sizes.", "between very poor and excellent"),
];

/// Values, gradients and greedy tokens of one kind of checkpoint, f32.
fn check(seed: u64, model: &[&str]) {
    let world = World::new(seed, model);
    world.write(&MANY);
    let gradients = [world.text("theirs.safetensors"), world.text("ours.safetensors")];
    let theirs = world.reference("theirs.jsonl", &["--greedy", "10", "--grad", &gradients[0]]);
    let ours: Vec<Scored> = world.worker("logprobs", "ours.jsonl", &["--gradients", &gradients[1]]);
    let difference = largest_difference(&ours, &theirs);
    assert!(difference < 2e-5, "log-probabilities differ by up to {difference}");
    compare_gradients(&world.path("ours.safetensors"), &world.path("theirs.safetensors"));
    let generated: Vec<Generated> =
        world.worker("generate", "generated.jsonl", &["--temperature", "0", "--max-new-tokens", "10"]);
    for (ours, theirs) in generated.iter().zip(&theirs) {
        assert_eq!((&ours.id, &ours.completions[0].ids), (&theirs.id, &theirs.greedy_ids));
    }
}

#[test]
fn a_nested_tied_checkpoint_in_one_file_agrees_with_transformers() {
    check(1, &[]);
}

#[test]
fn a_flat_untied_checkpoint_in_shards_agrees_with_transformers() {
    let shape = ["--hidden", "96", "--layers", "3", "--heads", "6", "--kv-heads", "3", "--vision-depth", "3"];
    check(2, &[&["--flat", "--untied", "--shards", "3"], shape.as_slice()].concat());
}

#[test]
fn a_bf16_checkpoint_agrees_with_transformers() {
    check(3, &["--dtype", "bfloat16", "--kv-heads", "1", "--vision-hidden", "64", "--vision-depth", "5"]);
}

#[test]
fn bf16_is_as_near_to_f32_as_transformers_own_bf16() {
    let world = World::new(4, &[]);
    let texts = ["good fair", "sharpness noise 3.5", "<answer>\n2.00\n</answer>", "the image is poor"];
    let requests: Vec<(Vec<usize>, String)> =
        (0..32).map(|i| ((0..i % 4).map(|p| (i + p) % 5).collect(), format!("Prompt {i}"))).collect();
    let requests: Vec<(&[usize], &str, &str)> =
        requests.iter().enumerate().map(|(i, (p, t))| (p.as_slice(), t.as_str(), texts[i % 4])).collect();
    world.write(&requests);
    let exact = world.reference("f32.jsonl", &[]);
    let theirs = mean_difference(&world.reference("bf16.jsonl", &["--dtype", "bfloat16"]), &exact);
    let ours = mean_difference(&world.worker("logprobs", "ours.jsonl", &["--dtype", "bfloat16"]), &exact);
    assert!(ours <= 1.25 * theirs, "ours is {ours} from f32, transformers' {theirs}");
}

#[test]
fn a_seed_names_the_responses() {
    let world = World::new(5, &[]);
    world.write(&MANY);
    let sampling = ["--responses", "3", "--max-new-tokens", "12", "--top-k", "0", "--temperature", "0.7"];
    let generated: Vec<Generated> = world.worker("generate", "generated.jsonl", &sampling);
    let again: Vec<Generated> = world.worker("generate", "again.jsonl", &sampling);
    let other: Vec<Generated> =
        world.worker("generate", "other.jsonl", &[&sampling[..], &["--seed", "1"]].concat());
    let ids = |g: &[Generated]| -> Vec<Vec<u32>> {
        g.iter().flat_map(|g| g.completions.iter().map(|c| c.ids.clone())).collect()
    };
    assert_eq!(ids(&generated), ids(&again));
    assert_ne!(ids(&generated), ids(&other));
    assert!(generated.iter().flat_map(|g| &g.completions).all(|c| c.ids.len() == c.logprobs.len()));
}

#[test]
fn wrong_input_is_one_line_and_exit_code_2() {
    let world = World::new(6, &[]);
    let run = |model: &str, requests: &str| {
        std::fs::write(world.path("requests.jsonl"), requests).unwrap();
        let [input, output] = ["requests.jsonl", "out.jsonl"].map(|name| world.text(name));
        let model = world.text(model);
        let arguments = ["logprobs", "--model", &model, "--input", &input, "--output", &output];
        let text = fail("worker", &arguments, 2);
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        assert!(!world.path("out.jsonl").exists());
        text
    };
    let request =
        |image: &str| json!({"id": "a", "images": [image], "prompt": "p", "completion": "c"}).to_string();
    assert!(run("nothing", "").contains("config.json"));
    assert!(run("model", "{\"id\": 1}").contains("requests.jsonl:1"));
    std::fs::write(world.path("empty.png"), "").unwrap();
    assert!(run("model", &request(&world.text("empty.png"))).contains("empty.png"));
    assert!(run("model", &json!({"id": "a", "prompt": "p"}).to_string()).contains("completion"));
    assert!(
        run("model", &json!({"id": "a", "prompt": "<|image_pad|>", "completion": "c"}).to_string())
            .contains("placeholder")
    );
    edit(&world.path("model/config.json"), |config| config["text_config"]["intermediate_size"] = json!(100));
    let message = run("model", &request(&world.text("0.png")));
    assert!(message.contains("mlp.gate_proj.weight has shape [192, 64], expected [100, 64]"), "{message}");
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}
