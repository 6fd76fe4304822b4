//! What a request may hold, against transformers: texts, images and videos in any order, and what is wrong with one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use tests::answers::{Generated, Scored, lines};
use tests::{fail, script, succeed, text};

/// A folder with a tiny model and pictures: five small ones, then six frames of 280 × 364 and six of 112 × 140.
struct World {
    folder: tempfile::TempDir,
}

const SMALL: [&str; 5] = ["112x112", "140x84", "77x61", "211x133", "1x1"];

impl World {
    fn new(seed: &str, model: &[&str]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        script("make_tiny_model.py", &[&[text(&world.path("model")), "--seed", seed], model].concat());
        let sizes = [&SMALL[..], &["280x364"; 6], &["112x140"; 6]].concat();
        script("pictures.py", &[&[text(world.folder.path()), seed], sizes.as_slice()].concat());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn picture(&self, number: usize) -> String {
        text(&self.path(&format!("{number}.{}", if number % 2 == 1 { "jpg" } else { "png" }))).to_owned()
    }

    fn image(&self, number: usize) -> Value {
        json!({"type": "image", "image": self.picture(number)})
    }

    fn video(&self, frames: &[usize], fps: Option<f64>) -> Value {
        let frames: Vec<String> = frames.iter().map(|&number| self.picture(number)).collect();
        match fps {
            Some(fps) => json!({"type": "video", "video": frames, "fps": fps}),
            None => json!({"type": "video", "video": frames}),
        }
    }

    /// Requests of these contents, their pictures and videos numbered or not.
    fn write(&self, contents: &[Value], add_vision_id: bool) {
        let line = |(number, content): (usize, &Value)| {
            json!({"id": format!("r{number}"), "content": content, "completion": "the image is <answer> 3.25",
                "add_vision_id": add_vision_id})
            .to_string()
        };
        let lines: Vec<String> = contents.iter().enumerate().map(line).collect();
        std::fs::write(self.path("requests.jsonl"), lines.join("\n")).unwrap();
    }

    fn arguments<'a>(&self, output: &'a str) -> [String; 6] {
        let path = |name: &'a str| text(&self.path(name)).to_owned();
        let [model, input, output] = ["model", "requests.jsonl", output].map(path);
        ["--model".into(), model, "--input".into(), input, "--output".into(), output]
    }

    fn worker<T: for<'a> Deserialize<'a>>(&self, command: &str, output: &str, more: &[&str]) -> Vec<T> {
        let fixed = self.arguments(output);
        let fixed: Vec<&str> = fixed.iter().map(String::as_str).collect();
        succeed("worker", &[&[command], fixed.as_slice(), more].concat());
        lines(&self.path(output))
    }

    /// Log-probabilities and greedy tokens of ours are transformers'.
    fn agree(&self, contents: &[Value]) {
        self.agree_with(contents, false);
    }

    /// The same, pictures and videos numbered or not.
    fn agree_with(&self, contents: &[Value], add_vision_id: bool) {
        self.write(contents, add_vision_id);
        let [model, requests, output] =
            ["model", "requests.jsonl", "theirs.jsonl"].map(|name| text(&self.path(name)).to_owned());
        script("reference.py", &[&model, &requests, &output, "--greedy", "6"]);
        let theirs: Vec<Scored> = lines(&self.path("theirs.jsonl"));
        let ours: Vec<Scored> = self.worker("logprobs", "ours.jsonl", &[]);
        assert_eq!(ours.len(), contents.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!((&ours.id, ours.prompt_tokens), (&theirs.id, theirs.prompt_tokens));
            assert_eq!(ours.completion_ids, theirs.completion_ids);
            let pairs = ours.logprobs.iter().zip(&theirs.logprobs);
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(largest < 2e-5, "{}: log-probabilities differ by up to {largest}", ours.id);
        }
        let greedy = ["--temperature", "0", "--max-new-tokens", "6"];
        let drawn: Vec<Generated> = self.worker("generate", "drawn.jsonl", &greedy);
        for (ours, theirs) in drawn.iter().zip(&theirs) {
            assert_eq!(ours.completions[0].ids, theirs.greedy_ids, "{}", theirs.id);
        }
    }

    /// What `worker logprobs` says of a request, in one line with its file and line.
    fn refused(&self, request: &Value) -> String {
        std::fs::write(self.path("requests.jsonl"), format!("\n{request}\n")).unwrap();
        let fixed = self.arguments("refused.jsonl");
        let fixed: Vec<&str> = fixed.iter().map(String::as_str).collect();
        let said = fail("worker", &[&["logprobs"], fixed.as_slice()].concat(), 2);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.contains("requests.jsonl:2: "), "{said}");
        assert!(!self.path("refused.jsonl").exists());
        said
    }
}

fn words(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

#[test]
fn texts_and_images_in_any_order_agree_with_transformers() {
    let world = World::new("11", &[]);
    world.agree(&[
        json!([words("Describe the image.")]),
        json!([
            words("This is sharp: "),
            world.image(0),
            words(" and this? "),
            world.image(3),
            words("Rate it.")
        ]),
        json!([world.image(1), world.image(2), world.image(4), words("Which is best?")]),
        json!([words("first"), words(" second"), world.image(1)]),
    ]);
}

#[test]
fn videos_agree_with_transformers() {
    let world = World::new("12", &[]);
    world.agree(&[
        // Four positions a second: the times stay within the rows and columns, where transformers counts right.
        json!([world.video(&[5, 6, 7, 8], None), words("Describe the video.")]),
        json!([
            words("Odd: "),
            world.video(&[5, 6, 7, 8, 9], Some(4.0)),
            words("Rate its temporal quality.")
        ]),
        json!([world.video(&[6], Some(1.0)), words("One frame.")]),
        json!([
            world.image(0),
            world.video(&[10, 5], Some(25.0)),
            words("and"),
            world.video(&[9, 8, 7], Some(7.5)),
            words("?"),
            world.image(1)
        ]),
    ]);
}

#[test]
fn a_video_file_agrees_with_transformers_on_the_frames_that_are_taken_of_it() {
    let world = World::new("18", &[]);
    let [clip, frames] = ["clip.mp4", "frames"].map(|name| text(&world.path(name)).to_owned());
    // Four seconds of frames whose size the model leaves as it is: eight are taken, in four groups whose times stay
    // within the rows, where transformers counts right.
    script("video_reference.py", &["clip", &clip, "280x364", "40", "10"]);
    let said = succeed("worker", &["frames", "--native", "--video", &clip, "--output", &frames]);
    let about: Value = serde_json::from_str(&said).unwrap();
    let taken = script("video_reference.py", &["sample", &said, "2"]);
    assert_eq!(about["taken"], serde_json::from_str::<Value>(&taken).unwrap());
    assert_eq!((&about["fps"], &about["frames"], &about["width"]), (&json!(2.0), &json!(40), &json!(280)));
    let files: Vec<String> = (0..8).map(|number| format!("{frames}/clip_{number}.png")).collect();
    let of =
        |video: Value| json!([words("a"), {"type": "video", "video": video, "fps": 2.0}, words("Rate it.")]);
    let completion = |content: Value| {
        let line = json!({"id": "r0", "content": content, "completion": "the video is <answer> 3.25"});
        std::fs::write(world.path("requests.jsonl"), line.to_string()).unwrap();
    };
    completion(of(json!(files)));
    let [model, requests, output] =
        ["model", "requests.jsonl", "theirs.jsonl"].map(|name| text(&world.path(name)).to_owned());
    script("reference.py", &[&model, &requests, &output]);
    let theirs: Vec<Scored> = lines(&world.path("theirs.jsonl"));
    let listed: Vec<Scored> = world.worker("logprobs", "listed.jsonl", &[]);
    completion(of(json!(clip)));
    let ours: Vec<Scored> = world.worker("logprobs", "ours.jsonl", &[]);
    assert_eq!(ours[0].logprobs, listed[0].logprobs, "a video and its frames are the same");
    let (ours, theirs) = (&ours[0], &theirs[0]);
    assert_eq!((ours.prompt_tokens, &ours.completion_ids), (theirs.prompt_tokens, &theirs.completion_ids));
    let pairs = ours.logprobs.iter().zip(&theirs.logprobs);
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest < 2e-5, "log-probabilities differ by up to {largest}");
}

#[test]
fn numbered_pictures_and_videos_agree_with_transformers() {
    let world = World::new("17", &[]);
    let contents = [
        json!([world.image(0), words("Rate it.")]),
        json!([
            words("a"),
            world.image(1),
            world.image(2),
            words("b"),
            world.video(&[5, 6], None),
            words("c")
        ]),
        json!([words("Nothing to number.")]),
    ];
    world.agree_with(&contents, true);
    let tokens = |name: &str| -> Vec<usize> {
        lines::<Scored>(&world.path(name)).iter().map(|scored| scored.prompt_tokens).collect()
    };
    let numbered = tokens("ours.jsonl");
    world.agree(&contents);
    let plain = tokens("ours.jsonl");
    assert!(
        numbered[0] > plain[0] && numbered[1] > plain[1] && numbered[2] == plain[2],
        "{numbered:?} {plain:?}"
    );
}

#[test]
fn videos_have_the_bounds_of_pictures_where_a_checkpoint_has_one_file_for_both() {
    let world = World::new("13", &["--flat", "--untied"]);
    world.agree(&[
        json!([world.video(&[11, 12, 13, 14, 15], Some(8.0)), words("Small frames stay small.")]),
        json!([words("a"), world.video(&[5, 6, 7], Some(6.0)), world.image(2), words("b")]),
    ]);
}

#[test]
fn images_before_a_prompt_are_the_same_content() {
    let world = World::new("14", &[]);
    let short = json!({"id": "r0", "images": [world.picture(0), world.picture(1)], "prompt": "p", "completion": "fair"});
    let long =
        json!({"id": "r0", "content": [world.image(0), world.image(1), words("p")], "completion": "fair"});
    std::fs::write(world.path("requests.jsonl"), format!("{short}\n{long}\n")).unwrap();
    let scored: Vec<Scored> = world.worker("logprobs", "out.jsonl", &[]);
    assert_eq!(scored[0].logprobs, scored[1].logprobs);
    assert_eq!(scored[0].prompt_tokens, scored[1].prompt_tokens);
}

#[test]
fn threads_change_neither_values_nor_order() {
    let world = World::new("15", &[]);
    let images: Vec<String> = (0..11).map(|number| world.picture(number)).collect();
    let cut = |threads: &str| {
        let out = text(&world.path(&format!("{threads}.safetensors"))).to_owned();
        let timing = text(&world.path("timing.json")).to_owned();
        let model = text(&world.path("model")).to_owned();
        let fixed =
            ["patches", "--model", &model, "--output", &out, "--timing", &timing, "--threads", threads];
        let files: Vec<&str> = images.iter().map(String::as_str).collect();
        succeed("worker", &[fixed.as_slice(), &["--images"], &files].concat());
        let timing: Value = serde_json::from_slice(&std::fs::read(&timing).unwrap()).unwrap();
        assert_eq!((timing["images"].as_u64(), timing["threads"].to_string().as_str()), (Some(11), threads));
        assert!(timing["seconds"].as_f64().unwrap() > 0.0);
        std::fs::read(&out).unwrap()
    };
    let one = cut("1");
    assert_eq!(one, cut("3"));
    assert_eq!(one, cut("8"));
}

#[test]
fn what_is_wrong_with_a_request_is_said_with_its_line_and_field() {
    let world = World::new("16", &[]);
    let of = |content: Value| json!({"id": "a", "content": content, "completion": "c"});
    let both = json!({"id": "a", "prompt": "p", "content": [words("p")], "completion": "c"});
    assert!(world.refused(&both).contains("content and prompt: content says it all"));
    assert!(world.refused(&json!({"prompt": "p"})).contains("id: is missing"));
    assert!(
        world
            .refused(&of(json!([{"type": "audio", "audio": "a"}])))
            .contains("content[0].type: expected \"text\"")
    );
    assert!(
        world
            .refused(&of(json!([words("p"), world.video(&[], None)])))
            .contains("content[1].video: is empty")
    );
    assert!(
        world
            .refused(&of(json!([world.video(&[5], Some(-1.0))])))
            .contains("content[0].fps: expected frames")
    );
    let mixed = world.refused(&of(json!([world.video(&[5, 6, 11], None)])));
    assert!(mixed.contains("11.jpg: the frame has 112x140 pixels, the video's first one 280x364"), "{mixed}");
    let gone = world.refused(&of(json!([words("p"), {"type": "image", "image": "/nowhere.png"}])));
    assert!(gone.contains("request a: /nowhere.png: cannot be read"), "{gone}");
    let placeholder = world.refused(&of(json!([words("<|video_pad|>")])));
    assert!(
        placeholder.contains("the text must not hold <|image_pad|> or <|video_pad|> itself"),
        "{placeholder}"
    );
}
