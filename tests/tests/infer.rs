//! Scores of folders and lists by `worker infer`, undisturbed and killed; and a run on videos.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::running::wait_for;
use tests::scene::{NO_EVALUATION, Scene, Start};
use tests::{fail, program, root, succeed, text};

fn fixture(name: &str) -> PathBuf {
    root().join("crates/vision/tests/fixtures/videos").join(name)
}

fn checkpoint() -> PathBuf {
    root().join("configs/quickstart/checkpoint")
}

/// Arguments of an inference of short answers on one thread.
fn arguments(what: &[&str], output: &Path) -> Vec<String> {
    let model = checkpoint();
    let fixed = ["--threads", "1", "--max-new-tokens", "48", "--batch", "4", "--max-pixels", "12544"];
    let words = [&["infer", "--model", text(&model), "--output", text(output)][..], what, &fixed].concat();
    words.into_iter().map(str::to_owned).collect()
}

fn infer(what: &[&str], output: &Path) {
    let arguments = arguments(what, output);
    let _ = succeed("worker", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

/// As [`infer`], where the small model may find no number for anything: it was trained on single pictures.
fn judge(what: &[&str], output: &Path) {
    let status = Command::new(program("worker")).args(arguments(what, output)).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 2)), "{status}");
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_killed_inference_goes_on_and_ends_with_the_same_files() {
    let scene = Scene::new(Start::Trained, "{ name: explore, kind: prpo, steps: 1 }");
    let images = scene.path("data/images");
    fs::write(images.join("broken.png"), b"no picture").unwrap();
    let what = ["--images", text(&images)];
    let [whole, killed] = ["whole.txt", "killed.txt"].map(|name| scene.path(name));
    let reasoning = scene.text("reasoning.jsonl");
    infer(&[&what[..], &["--reasoning", &reasoning]].concat(), &whole);
    let scores = fs::read_to_string(&whole).unwrap();
    let failures = json_lines(&scene.path("whole.txt.failures"));
    let reasons = json_lines(Path::new(&reasoning));
    assert_eq!(reasons.len(), scores.lines().count());
    assert_eq!(reasons.len() + failures.len(), fs::read_dir(&images).unwrap().count());
    let broken = failures.iter().find(|failure| failure["path"] == "broken.png").unwrap();
    assert!(broken["error"].as_str().unwrap().contains("is no picture that can be read"), "{broken}");
    assert!(!scores.contains("broken.png"));
    let (line, reason) = (scores.lines().next().unwrap(), &reasons[0]);
    assert_eq!(line, format!("{} {}", reason["path"].as_str().unwrap(), reason["score"]));
    assert_eq!(reason["aspects"][0].as_array().unwrap().len(), 5);

    let progress = scene.path("killed.txt.progress");
    let mut child = Command::new(program("worker"))
        .args(arguments(&what, &killed))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("two batches", || {
        let lines = fs::read_to_string(&progress).map_or(0, |text| text.lines().count());
        (lines >= 3).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(progress.exists() && !killed.exists(), "it was killed before its end");
    infer(&what, &killed);
    assert!(!progress.exists());
    for ending in ["", ".failures"] {
        let read = |name: &str| fs::read(scene.path(&format!("{name}.txt{ending}"))).unwrap();
        assert_eq!(read("whole"), read("killed"), "scores{ending}");
    }
}

#[test]
fn videos_and_lists_are_judged_and_what_cannot_be_read_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::copy(fixture("flat.mp4"), at("a.mp4")).unwrap();
    fs::copy(fixture("sound.m4a"), at("sound.mp4")).unwrap();
    let _ = succeed(
        "worker",
        &["frames", "--video", text(&fixture("flat.mkv")), "--output", text(folder.path())],
    );
    let output = at("scores.out");
    judge(&["--videos", text(folder.path()), "--question", "Rate it."], &output);
    let judged = |output: &Path| -> Vec<String> {
        let scores = fs::read_to_string(output).unwrap_or_default();
        let failures = json_lines(&output.with_extension("out.failures"));
        let failed = failures.iter().map(|failure| failure["path"].as_str().unwrap().to_owned());
        let mut names: Vec<String> =
            scores.lines().map(|line| line.split(' ').next().unwrap().to_owned()).chain(failed).collect();
        names.sort();
        names
    };
    assert_eq!(judged(&output), ["a.mp4", "flat_0.png", "sound.mp4"]);
    let failures = fs::read_to_string(at("scores.out.failures")).unwrap();
    assert!(failures.contains("sound.mp4: holds no pictures, only 1 audio streams"), "{failures}");

    fs::write(at("list.txt"), "a.mp4\nabsent.png\nflat_1.png\n").unwrap();
    let output = at("listed.out");
    judge(&["--list", text(&at("list.txt")), "--root", text(folder.path())], &output);
    assert_eq!(judged(&output), ["a.mp4", "absent.png", "flat_1.png"]);

    fs::write(at("list.txt"), "absent.png\n").unwrap();
    let none = arguments(&["--list", text(&at("list.txt"))], &at("none.out"));
    let said = fail("worker", &none.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(said.contains("none of the 1 inputs could be judged"), "{said}");
}

#[test]
fn a_run_trains_on_videos_themselves_and_on_ready_made_pictures() {
    let scene = Scene::new(Start::Trained, "{ name: watch, kind: prpo, steps: 1 }");
    let media = scene.path("videos");
    fs::create_dir_all(&media).unwrap();
    for name in ["flat.mp4", "flat.webm", "one.mp4"] {
        fs::copy(fixture(name), media.join(name)).unwrap();
    }
    // A video that is not there, but pictures of it are; and pictures alone.
    for (video, stem) in [("flat.mkv", "gone"), ("flat.ts", "ready")] {
        let copy = scene.path(&format!("{stem}.{}", video.rsplit('.').next().unwrap()));
        fs::copy(fixture(video), &copy).unwrap();
        let _ = succeed("worker", &["frames", "--video", text(&copy), "--output", text(&media)]);
    }
    let entry = |files: &str, mos: f64| {
        format!(
            r#"{{"id": 1, "image": [{files}], "conversations": [{{"from": "human", "value": "Rate it."}}, {{"from": "gpt", "value": {mos}}}]}}"#
        )
    };
    let entries = [
        entry(r#""flat.mp4""#, 1.5),
        entry(r#""flat.webm""#, 3.0),
        entry(r#""gone.mp4""#, 4.5),
        entry(r#""ready_0.png", "ready_1.png", "ready_2.png", "ready_3.png""#, 2.0),
    ];
    fs::write(scene.path("videos.json"), format!("[{}]", entries.join(", "))).unwrap();
    let train = format!(
        "data.train=[{{ name: v, manifest: {}, media: {} }}]",
        scene.text("videos.json"),
        media.display()
    );
    let cache = scene.text("kept");
    let cache = format!("data.frame_cache={cache}");
    let settings = ["--set", &train, "--set", &cache, "--set", "data.longest_side=112"];
    let ended = scene.run(&[&settings[..], &NO_EVALUATION].concat()).with(0);
    assert!(ended.stdout.contains("watch"), "{}", ended.stdout);
    assert_eq!(scene.lines("metrics.jsonl").len(), 1);
    assert_eq!(fs::read_dir(scene.path("kept")).unwrap().count(), 2, "two videos were decoded, once each");
}
