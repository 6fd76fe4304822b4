//! Files that lie, nest, multiply or end too early: each is one line that names the file, tensor or field, and none
//! makes a program panic, hang or take memory by a number that a file holds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::{program, root};

/// Address space of a program under test: libtorch and a small model fit, what a hostile number asks for does not.
const KILOBYTES: &str = "20000000";

/// A copy of the quickstart's checkpoint with a request for it.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("model")).unwrap();
        for entry in fs::read_dir(root().join("configs/quickstart/checkpoint")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), world.path("model").join(entry.file_name())).unwrap();
        }
        world.ask("Rate it.", "rgb.png");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("model").join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path("model").join(name), bytes).unwrap();
    }

    /// Changes a JSON file of the model.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.bytes(name)).unwrap();
        change(&mut value);
        self.write(name, value.to_string());
    }

    /// A request about one of the vision crate's pictures, or one of this folder's.
    fn ask(&self, prompt: &str, picture: &str) {
        let fixture = root().join("crates/vision/tests/fixtures").join(picture);
        let picture = if fixture.is_file() { fixture } else { self.path(picture) };
        let request = json!({"id": "a", "images": [picture], "prompt": prompt, "completion": "c"});
        fs::write(self.path("requests.jsonl"), request.to_string()).unwrap();
    }

    fn worker(&self, command: &str) -> (Option<i32>, String) {
        let shell = format!("ulimit -v {KILOBYTES}; exec \"$0\" \"$@\"");
        let mut worker = Command::new("bash");
        worker
            .args(["-c", &shell])
            .arg(program("worker"))
            .arg(command)
            .arg("--model")
            .arg(self.path("model"));
        worker.arg("--input").arg(self.path("requests.jsonl")).arg("--output").arg(self.path("out.jsonl"));
        let output = worker.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// The one line with which the request is refused.
    fn refused(&self, words: &[&str]) {
        let (code, said) = self.worker("logprobs");
        assert_eq!(code, Some(2), "{words:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.starts_with("worker: ") && said.len() < 20_000, "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        assert!(!self.path("out.jsonl").exists());
    }
}

/// A file of the model's folder, what it becomes, and what is said about it.
type Case<'a> = (&'a str, Vec<u8>, &'a [&'a str]);

fn each(world: &World, cases: &[Case<'_>]) {
    for (name, bytes, words) in cases {
        let kept = fs::read(world.path("model").join(name)).ok();
        world.write(name, bytes);
        world.refused(words);
        match kept {
            Some(kept) => world.write(name, kept),
            None => fs::remove_file(world.path("model").join(name)).unwrap(),
        }
    }
}

/// A JSON file of the model with one field changed.
fn with(world: &World, name: &str, pointer: &str, value: Value) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(&world.bytes(name)).unwrap();
    let (object, field) = pointer.rsplit_once('/').unwrap();
    file.pointer_mut(object).unwrap()[field] = value;
    file.to_string().into_bytes()
}

fn nested() -> Vec<u8> {
    [b"{\"a\":".to_vec(), vec![b'['; 1_000_000]].concat()
}

#[test]
fn the_copy_that_is_damaged_below_is_whole() {
    let world = World::new();
    assert_eq!(world.worker("logprobs"), (Some(0), String::new()));
}

#[test]
fn damaged_weights_are_named() {
    let world = World::new();
    let whole = world.bytes("model.safetensors");
    let header = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 64]].concat();
    let overlap = r#"{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},"b":{"dtype":"F32","shape":[8],"data_offsets":[32,64]}}"#;
    let huge = r#"{"a":{"dtype":"BF16","shape":[1000000000,1000000000],"data_offsets":[0,64]}}"#;
    let name = "model.safetensors";
    let said = "model/model.safetensors: not a whole safetensors file: ";
    each(
        &world,
        &[
            (name, Vec::new(), &[said, "it has 0 bytes"]),
            (name, whole[..4000].to_vec(), &[said, "its header is said to have"]),
            (name, whole[..whole.len() / 2].to_vec(), &[said, "tensor ", "of the data, of which there are"]),
            (name, [&whole[..], &[0]].concat(), &[said, "its tensors end at byte"]),
            (name, vec![0xff; 100], &[said, "its header is said to have 18446744073709551615 bytes"]),
            (name, header(overlap), &[said, "tensor b begins at byte 32 of the data, expected 64"]),
            (
                name,
                header(huge),
                &[said, "tensor a of type BF16 and shape [1000000000, 1000000000] cannot lie"],
            ),
            (name, header("{}"), &[said, "its tensors end at byte 0"]),
        ],
    );
}

#[test]
fn an_index_that_leads_astray_is_named() {
    let world = World::new();
    fs::rename(world.path("model/model.safetensors"), world.path("model/elsewhere.safetensors")).unwrap();
    let name = "model.safetensors.index.json";
    let to = |file: &str| json!({"weight_map": {"model.norm.weight": file}}).to_string().into_bytes();
    let absolute = world.path("model/elsewhere.safetensors").display().to_string();
    let outside = "which is not a file of this directory";
    each(
        &world,
        &[
            (name, to("../model/elsewhere.safetensors"), &[name, "tensor model.norm.weight", outside]),
            (name, to(&absolute), &[name, outside]),
            (name, to("gone.safetensors"), &[name, "missing beside it: gone.safetensors"]),
            (name, to("elsewhere.safetensors\0"), &[name, "missing beside it"]),
            (name, nested(), &[name, "no weight index"]),
            (name, b"[]".to_vec(), &[name, "no weight index"]),
        ],
    );
    world.refused(&["/model: expected model.safetensors or model.safetensors.index.json"]);
}

#[test]
fn a_configuration_that_contradicts_weights_or_sense_is_named() {
    let world = World::new();
    let config = |pointer: &str, value: Value| with(&world, "config.json", pointer, value);
    let name = "config.json";
    let text = |field: &str, value: Value| config(&format!("/text_config/{field}"), value);
    each(
        &world,
        &[
            (
                name,
                text("intermediate_size", json!(100)),
                &["mlp.gate_proj.weight has shape [512, 192], expected [100, 192]"],
            ),
            (name, text("num_hidden_layers", json!(5)), &["missing model.layers.4.self_attn.q_proj.weight"]),
            (
                name,
                text("num_hidden_layers", json!(1)),
                &["unexpected model.layers.1.mlp.up_proj.weight", "layers.3."],
            ),
            (
                name,
                text("hidden_size", json!(1e18)),
                &["config.json: text_config.hidden_size: expected a whole number", "1e+18"],
            ),
            (name, text("hidden_size", json!(1_000_000_000_000_000_000_u64)), &["text_config.hidden_size"]),
            (name, text("hidden_size", json!(-192)), &["text_config.hidden_size", "got -192"]),
            (
                name,
                text("num_hidden_layers", json!(0)),
                &["text_config.num_hidden_layers", "from 1 to 1024, got 0"],
            ),
            (
                name,
                text("num_attention_heads", json!(5)),
                &["text_config.num_attention_heads", "192 / 5 heads"],
            ),
            (
                name,
                text("vocab_size", json!(16_777_216)),
                &["embed_tokens.weight has shape [640, 192], expected [16777216, 192]"],
            ),
            (
                name,
                config("/vision_config/depth", json!(1024)),
                &["missing visual.blocks.10.norm1.weight", "and 12152 more"],
            ),
            (
                name,
                config("/vision_config/in_chans", json!(4)),
                &["vision_config.in_chans: differs from in_channels"],
            ),
            (name, nested(), &["config.json: expected a JSON object", "recursion limit"]),
            (name, Vec::new(), &["config.json: expected a JSON object"]),
            (name, b"\xff\xfe".to_vec(), &["config.json"]),
        ],
    );
}

#[test]
fn processor_files_that_do_not_fit_are_named() {
    let world = World::new();
    let tokenizer = |token: &str| {
        let mut file: Value = serde_json::from_slice(&world.bytes("tokenizer.json")).unwrap();
        file["added_tokens"].as_array_mut().unwrap().retain(|added| added["content"] != token);
        file.to_string().into_bytes()
    };
    let pictures = |field: &str, value: Value| with(&world, "preprocessor_config.json", field, value);
    let both = {
        let mut file: Value = serde_json::from_slice(&world.bytes("preprocessor_config.json")).unwrap();
        file["min_pixels"] = json!(1_000_000_000_000_000_000_u64);
        file["max_pixels"] = file["min_pixels"].clone();
        file.to_string().into_bytes()
    };
    let settings = "preprocessor_config.json";
    each(
        &world,
        &[
            ("tokenizer.json", tokenizer("<|image_pad|>"), &["tokenizer.json: has no token <|image_pad|>"]),
            ("tokenizer.json", tokenizer("<|video_pad|>"), &["tokenizer.json: has no token <|video_pad|>"]),
            (
                "tokenizer.json",
                tokenizer("<|im_end|>"),
                &["tokenizer.json: <|image_pad|> is 588, config.json's image_token_id is 589"],
            ),
            ("tokenizer.json", nested(), &["tokenizer.json: "]),
            ("tokenizer.json", Vec::new(), &["tokenizer.json: "]),
            ("generation_config.json", nested(), &["generation_config.json: no JSON", "recursion limit"]),
            (
                "generation_config.json",
                b"{\"eos_token_id\": 1e18}".to_vec(),
                &["generation_config.json: eos_token_id"],
            ),
            (settings, nested(), &["preprocessor_config.json: no JSON", "recursion limit"]),
            (
                settings,
                pictures("/patch_size", json!(u64::MAX)),
                &["preprocessor_config.json: patch_size is"],
            ),
            (settings, pictures("/temporal_patch_size", json!(-2)), &["preprocessor_config.json: "]),
            (settings, pictures("/image_std", json!([0, 0, 0])), &["image_std is [0.0, 0.0, 0.0]"]),
            (settings, both, &["rgb.png: ", "is no size for a picture"]),
        ],
    );
}

#[test]
fn a_chat_template_without_end_measure_or_place_is_refused() {
    let world = World::new();
    let name = "chat_template.jinja";
    let template = |source: &str| source.as_bytes().to_vec();
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let doubles = "{% set n = namespace(s='x') %}{% for i in range(50) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}";
    let picture = "<|vision_start|><|image_pad|><|vision_end|>";
    each(
        &world,
        &[
            (name, template(loops), &["request a: chat template: ", "out of fuel"]),
            (name, template(doubles), &["request a: chat template: ", "out of fuel"]),
            (name, template("{{ 'x' * 10000000000 }}"), &["request a: chat template: "]),
            (name, template("{% for x in messages %}"), &["chat template: "]),
            (
                name,
                template("{{ raise_exception('no pictures') }}"),
                &["request a: chat template: ", "no pictures"],
            ),
            (name, template(&"{% if a %}".repeat(100_000)), &["chat template: ", "recursion"]),
            (name, template(""), &["request a: ", "no tokens"]),
            (
                name,
                template("a"),
                &["request a: 1 pictures and videos were given, the prompt has places for 0"],
            ),
            (name, template(&picture.repeat(2)), &["request a: ", "for a picture 2 that was not given"]),
            (
                name,
                template("<|video_pad|>"),
                &["request a: picture 1: image and video placeholders are confused"],
            ),
        ],
    );
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let world = World::new();
    world.ask(&"word ".repeat(40_000), "rgb.png");
    world.refused(&["request a: the prompt has ", "the model's context (max_position_embeddings) is 32768"]);
    world.ask("a <|image_pad|> b", "rgb.png");
    world.refused(&["request a: ", "for a picture 2 that was not given"]);
    world.ask("Rate it.", "rgb.png");
    world.edit("config.json", |config| config["text_config"]["max_position_embeddings"] = json!(8));
    world.refused(&["request a: the prompt has ", "(max_position_embeddings) is 8"]);
}

#[test]
fn a_damaged_or_giant_picture_is_refused() {
    let world = World::new();
    let picture = |name: &str, bytes: &[u8], words: &[&str]| {
        fs::write(world.path(name), bytes).unwrap();
        world.ask("Rate it.", name);
        world.refused(&[&[name], words].concat());
    };
    let fixture = |name: &str| fs::read(root().join("crates/vision/tests/fixtures").join(name)).unwrap();
    let (jpeg, png) = (fixture("420.jpg"), fixture("rgb.png"));
    picture("empty.png", b"", &["is empty (0 bytes)"]);
    picture("half.png", &png[..png.len() / 2], &["damaged or truncated PNG", "replace the file"]);
    picture("half.jpg", &jpeg[..jpeg.len() / 2], &["damaged or truncated JPEG", "replace the file"]);
    picture("words.jpg", b"these are words", &["is no picture that can be read"]);
    let giant = "30000x30000 pixels are more than";
    picture("bomb.png", &png_header(30_000, 30_000), &[giant]);
    picture("bomb.jpg", &resized(jpeg, 30_000), &[giant]);
    fs::write(world.path("requests.jsonl"), nested()).unwrap();
    world.refused(&["requests.jsonl:1: expected {\"id\""]);
}

/// A PNG that says how large it is, and holds nothing.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let header = [b"IHDR".as_slice(), &width.to_be_bytes(), &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let chunk = |content: &[u8]| {
        [&(content.len() as u32 - 4).to_be_bytes(), content, &crc(content).to_be_bytes()].concat()
    };
    [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(&header),
        &chunk(b"IDAT\x78\x9c\x03\0\0\0\0\x01"),
        &chunk(b"IEND"),
    ]
    .concat()
}

/// PNG's checksum.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A JPEG whose frame header says that it is a square of `side` pixels.
fn resized(mut jpeg: Vec<u8>, side: u16) -> Vec<u8> {
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let side = side.to_be_bytes();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[side, side].concat());
    jpeg
}
