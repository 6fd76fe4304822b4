//! Videos that the model is shown themselves, frame after frame: trained on and judged by the real programs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tests::scene::{NO_EVALUATION, Scene, Start};
use tests::{program, root, succeed, text};

fn fixture(name: &str) -> PathBuf {
    root().join("crates/vision/tests/fixtures/videos").join(name)
}

/// A copy of the quickstart's checkpoint whose chat template has a place for videos.
fn with_videos(scene: &Scene) -> PathBuf {
    let copy = scene.path("with_videos");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(root().join("configs/quickstart/checkpoint")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let (image, video) =
        ("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>");
    let more = format!("{image}{{% elif content['type'] == 'video' %}}{video}");
    // It says what the template was.
    fs::remove_file(copy.join("manifest.json")).unwrap();
    scene.edit("with_videos/chat_template.jinja", image, &more);
    copy
}

#[test]
fn a_model_is_trained_on_and_judges_videos_that_it_is_shown_themselves() {
    let scene = Scene::new(Start::Trained, "{ name: watch, kind: prpo, steps: 1 }");
    let (media, model) = (scene.path("videos"), with_videos(&scene));
    fs::create_dir(&media).unwrap();
    let mut labels = String::new();
    for (name, mos) in [("flat.mp4", 1.5), ("flat.webm", 3.0), ("flat.mkv", 4.5), ("one.mp4", 2.0)] {
        fs::copy(fixture(name), media.join(name)).unwrap();
        labels.push_str(&format!("{name}, {mos}\n"));
    }
    fs::write(scene.path("labels.txt"), labels).unwrap();
    let (labels, media) = (scene.text("labels.txt"), media.display());
    let train = format!("data.train=[{{ name: v, manifest: {labels}, media: {media} }}]");
    let model_path = format!("model.path={}", model.display());
    let small = "data.max_pixels=12544";
    let native = [
        "--set",
        &train,
        "--set",
        &model_path,
        "--set",
        "data.video=native",
        "--set",
        "data.max_frames=6",
        "--set",
        small,
        "--set",
        "data.min_pixels=3136",
    ];
    let ended = scene.run(&[&native[..], &NO_EVALUATION].concat()).with(0);
    assert!(ended.stdout.contains("watch"), "{}", ended.stdout);
    let metrics = scene.lines("metrics.jsonl");
    assert!(metrics[0]["loss"].as_f64().unwrap().is_finite(), "{}", metrics[0]);
    let refused = scene.run(&[&native[..], &["--set", "data.longest_side=112"], &NO_EVALUATION].concat());
    refused.with(2).says(&["data.longest_side 112 must be absent beside video: native"]);

    let output = scene.path("native.txt");
    let (model, folder) = (text(&model), scene.text("videos"));
    let _ = fs::remove_file(scene.path("videos/one.mp4"));
    let one = fixture("one.mp4");
    let _ = succeed("worker", &["frames", "--video", text(&one), "--output", &folder]);
    let mut words = vec!["infer", "--model", model, "--videos", &folder, "--output", text(&output)];
    words.extend(["--native-video", "--max-frames", "4", "--max-pixels", "12544", "--min-pixels", "3136"]);
    words.extend(["--max-new-tokens", "24", "--threads", "1"]);
    let status = Command::new(program("worker")).args(words).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 2)), "{status}");
    let failures = fs::read_to_string(scene.path("native.txt.failures")).unwrap();
    assert!(failures.contains("expected the video itself"), "{failures}");
    assert!(!failures.contains("flat.mp4\",\"error\":\"sample"), "{failures}");
}
