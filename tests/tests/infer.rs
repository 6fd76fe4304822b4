//! Scores of folders and lists by `worker infer` and `coordinator infer`, undisturbed and killed; and a run on videos.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::running::{Running, processes, wait_for};
use tests::scene::{NO_EVALUATION, Scene, Start};
use tests::{fail, program, root, succeed, text};

fn fixture(name: &str) -> PathBuf {
    root().join("crates/vision/tests/fixtures/videos").join(name)
}

fn checkpoint() -> PathBuf {
    root().join("configs/quickstart/checkpoint")
}

/// Arguments of an inference of short answers.
fn asked(what: &[&str], output: &Path) -> Vec<String> {
    let model = checkpoint();
    let fixed = ["--max-new-tokens", "48", "--batch", "4", "--max-pixels", "12544"];
    let words = [&["infer", "--model", text(&model), "--output", text(output)][..], what, &fixed].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// The same by one worker on one thread.
fn arguments(what: &[&str], output: &Path) -> Vec<String> {
    [asked(what, output), vec!["--threads".into(), "1".into()]].concat()
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

/// The number of lines of a file that may not be there yet.
fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Drawn answers about a scene's pictures and one that is none, by one worker and by those of its host file.
struct Judged {
    scene: Scene,
    what: [String; 6],
}

impl Judged {
    fn alone() -> Self {
        let scene = Scene::new(Start::Trained, "{ name: explore, kind: prpo, steps: 1 }");
        let images = scene.path("data/images");
        fs::write(images.join("broken.png"), b"no picture").unwrap();
        let what = ["--images", text(&images), "--temperature", "0.7", "--seed", "3"].map(str::to_owned);
        let judged = Self { scene, what };
        let reasoning = judged.scene.text("alone.jsonl");
        infer(&judged.what(&["--reasoning", &reasoning]), &judged.scene.path("alone.txt"));
        judged
    }

    fn what<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.what.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }

    /// Starts the coordinator, which judges into NAME.txt and NAME.jsonl.
    fn begin(&self, name: &str, more: &[&str]) -> Running {
        let (output, reasoning) = (self.output(name), self.scene.text(&format!("{name}.jsonl")));
        let words = asked(&self.what(&[&["--reasoning", reasoning.as_str()][..], more].concat()), &output);
        let mut command = Command::new(program("coordinator"));
        command.args(words).args(["--nodes", &self.scene.text("hosts.yaml")]).current_dir(root());
        Running::start(command, &self.scene.path(""))
    }

    fn output(&self, name: &str) -> PathBuf {
        self.scene.path(&format!("{name}.txt"))
    }

    /// Waits until so many batches of a share are judged.
    fn wait_for_batches(&self, name: &str, share: usize, batches: usize) {
        let progress = self.scene.path(&format!("{name}.txt.progress-{share}"));
        wait_for("a batch", || (lines(&progress) > batches).then_some(()));
    }

    /// The workers that judge into NAME.txt.
    fn workers(&self, name: &str, more: &[&str]) -> Vec<u32> {
        let output = format!("--output={}", self.output(name).display());
        processes(&[&[output.as_str()][..], more].concat())
    }

    /// The files are those of one worker, and nothing else is left.
    fn is_done(&self, name: &str) {
        for ending in ["txt", "txt.failures", "jsonl"] {
            let read = |name: &str| fs::read_to_string(self.scene.path(&format!("{name}.{ending}"))).unwrap();
            assert_eq!(read(name), read("alone"), "{ending}");
            assert!(!read(name).is_empty(), "{ending}");
        }
        let names = fs::read_dir(self.scene.path("")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut ours: Vec<String> = names.filter(|file| file.starts_with(&format!("{name}."))).collect();
        ours.sort();
        assert_eq!(ours, ["jsonl", "txt", "txt.failures"].map(|ending| format!("{name}.{ending}")));
    }
}

#[test]
fn workers_of_a_host_file_end_with_the_files_of_one_whoever_is_killed() {
    let judged = Judged::alone();
    let run = judged.begin("worker", &[]);
    judged.wait_for_batches("worker", 1, 1);
    let [process] = judged.workers("worker", &["--share=1/2"])[..] else { panic!("one worker a share") };
    let killed = Command::new("kill").args(["-s", "KILL", &process.to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = run.end().with(0);
    let said = "rank 1 died (signal 9 (SIGKILL)) and is started again";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    judged.is_done("worker");

    let run = judged.begin("coordinator", &[]);
    judged.wait_for_batches("coordinator", 0, 1);
    run.signal("KILL");
    assert_eq!(run.end().code, None);
    wait_for("the end of its workers", || judged.workers("coordinator", &[]).is_empty().then_some(()));
    assert!(!judged.output("coordinator").exists(), "it was killed before its end");
    judged
        .begin("coordinator", &["--question", "Another?"])
        .end()
        .with(2)
        .says(&["begun with another question"]);
    // As many batches by other workers: what is done stays done.
    judged.scene.hosts("local", 3, "127.0.0.1:0");
    let before = lines(&judged.scene.path("coordinator.txt.progress-0"));
    let run = judged.begin("coordinator", &[]);
    judged.wait_for_batches("coordinator", 2, 1);
    assert!(lines(&judged.scene.path("coordinator.txt.progress-0")) >= before);
    let _ = run.end().with(0);
    judged.is_done("coordinator");
}

#[test]
fn what_workers_of_a_host_file_cannot_judge_is_said_in_one_line() {
    let scene = Scene::new(Start::Fresh, "{ name: explore, kind: prpo, steps: 1 }");
    let (nodes, output, images) =
        (scene.text("hosts.yaml"), scene.path("out.txt"), scene.text("data/images"));
    let refused = |more: &[&str]| {
        let words = asked(more, &output);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--nodes", &nodes]).collect();
        let said = fail("coordinator", &words, 2);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        said
    };
    let empty = scene.text("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused(&["--images", &empty]).contains("there are no pictures in it"));
    let said = refused(&["--images", &images, "--temperature=-1"]);
    assert!(said.contains("rank ") && said.contains("temperature"), "{said}");
    scene.hosts("external", 2, "127.0.0.1:0");
    assert!(refused(&["--images", &images]).contains("launcher: external starts no workers"));
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
