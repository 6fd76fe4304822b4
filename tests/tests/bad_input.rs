//! Wrong input is one line with what, where, what was expected and the way out; nothing half-written stays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::pipe;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use futures::StreamExt as _;
use proto::v1::coordinator_message::Body as Order;
use proto::v1::run_client::RunClient;
use proto::v1::worker_message::Body as Report;
use proto::v1::{Join, WorkerMessage};
use safetensors::SafeTensors;
use tests::running::{Running, workers_of};
use tests::scene::{NO_EVALUATION, Scene, Start};
use tests::{fail, program, text};

fn scene() -> Scene {
    Scene::new(Start::Fresh, "{ name: explore, kind: prpo, steps: 2 }")
}

/// The run is refused before it begins.
fn refused(scene: &Scene, words: &[&str]) {
    scene.run(&[]).with(2).says(words);
    assert!(!scene.run_folder().exists(), "a run folder was made");
}

/// The run began, and has nothing to go on with.
fn stopped(scene: &Scene, arguments: &[&str], words: &[&str]) {
    scene.run(arguments).with(2).says(words);
    assert_eq!(fs::read_dir(scene.run_folder().join("checkpoints")).unwrap().count(), 0);
    assert!(workers_of(scene.read("address").trim()).is_empty());
}

#[test]
fn a_picture_cut_short_stops_the_run_and_is_named() {
    let scene = scene();
    for entry in fs::read_dir(scene.path("data/images")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let words = ["/data/images/I0", ".png: damaged or truncated PNG", "replace the file"];
    stopped(&scene, &NO_EVALUATION, &words);
    stopped_again_in_evaluation(&scene, &words);
}

fn stopped_again_in_evaluation(scene: &Scene, words: &[&str]) {
    let output = scene.text("evaluated");
    scene.run(&["--output", &output]).with(2).says(words);
    assert_eq!(fs::read_dir(scene.path("evaluated/checkpoints")).unwrap().count(), 0);
}

#[test]
fn a_broken_line_of_a_manifest_is_named() {
    let scene = scene();
    let manifest = fs::read_to_string(scene.path("data/train.jsonl")).unwrap();
    let lines = |second: &str| {
        let mut lines: Vec<&str> = manifest.lines().collect();
        lines[1] = second;
        fs::write(scene.path("data/train.jsonl"), lines.join("\n")).unwrap();
    };
    lines("{\"id\": 2, \"image\": [");
    refused(&scene, &["data/train.jsonl:2: ", "expected"]);
    let second = manifest.lines().nth(1).unwrap();
    lines(&second.replace(".png", "-gone.png"));
    refused(&scene, &["-gone.png is no file", "expected the picture that the label file names"]);
    lines(&second.replace("\"from\":\"gpt\",\"value\":", "\"from\":\"gpt\",\"value\":1e9"));
    refused(&scene, &["data/train.jsonl:2: ", "expected"]);
}

#[test]
fn a_broken_line_of_a_label_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [labels, predictions] = ["mos.txt", "scores.txt"].map(|name| folder.path().join(name));
    fs::write(&labels, "a.png 3.5\nb.png high\n").unwrap();
    fs::write(&predictions, "a.png 3.5\nb.png 2\n").unwrap();
    let arguments = ["evaluate", "--labels", text(&labels), "--predictions", text(&predictions)];
    let said = fail("coordinator", &arguments, 2);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("mos.txt:2: mos \"high\" is not a number"), "{said}");
    fs::write(&labels, "a.png 3.5\nb.png 4\n").unwrap();
    fs::write(&predictions, "a.png 3.5\nb.png\n").unwrap();
    let said = fail("coordinator", &arguments, 2);
    assert!(said.contains("scores.txt:2: "), "{said}");
}

#[test]
fn unknown_keys_are_told_with_what_was_meant() {
    let scene = scene();
    scene.edit("hosts.yaml", "threads: 1", "gpu: 1");
    refused(&scene, &["hosts.yaml:4: ", "unknown key \"gpu\", did you mean \"device\"?"]);
    scene.edit("hosts.yaml", "gpu: 1", "threads: 1");
    scene.edit("recipe.yaml", "optimizer: { lr: ", "optimizer: { learning_rate: ");
    refused(&scene, &["recipe.yaml:", "unknown key \"learning_rate\", did you mean \"lr\"?"]);
}

#[test]
fn a_missing_weight_stops_the_run_and_is_named() {
    let scene = scene();
    let path = scene.path("model/model.safetensors");
    let lost = "model.layers.0.mlp.up_proj.weight";
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.tensors().into_iter().filter(|(name, _)| name != lost);
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len() + 1, tensors.len());
    fs::write(&path, safetensors::serialize(kept, None).unwrap()).unwrap();
    let [requests, answers] = ["requests.jsonl", "answers.jsonl"].map(|name| scene.text(name));
    fs::write(&requests, "{\"id\": \"a\", \"prompt\": \"p\", \"completion\": \"c\"}\n").unwrap();
    let model = scene.text("model");
    let arguments = ["logprobs", "--model", &model, "--input", &requests, "--output", &answers];
    assert!(fail("worker", &arguments, 2).contains(lost));
    assert!(!Path::new(&answers).exists());
    stopped(&scene, &NO_EVALUATION, &["/model", lost]);
}

#[test]
fn a_missing_model_folder_is_named() {
    let scene = scene();
    fs::rename(scene.path("model"), scene.path("elsewhere")).unwrap();
    refused(&scene, &["model.path", "/model/config.json does not exist", "expected a model folder"]);
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let scene = scene();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    scene.hosts("local", 2, &address);
    refused(&scene, &[&address, "the port is in use", "port 0 for any"]);
}

#[test]
fn a_folder_that_holds_a_run_is_left_as_it_is() {
    let scene = scene();
    let stage = ["--set", "stages.explore.steps=1"];
    let arguments = [stage.as_slice(), &NO_EVALUATION].concat();
    let _ = scene.run(&arguments).with(0);
    let kept = |name: &str| fs::read(scene.run_folder().join(name)).unwrap();
    let files = ["metrics.jsonl", "report.html", "summary.json", "recipe.yaml", "address", "owner"];
    let before = files.map(kept);
    scene
        .run(&arguments)
        .with(2)
        .says(&["/run: holds a run already (finished, 1 steps committed)", "another --output"]);
    assert_eq!(files.map(kept), before);
}

#[test]
fn a_worker_of_another_version_or_rank_is_refused_and_the_run_goes_on_without_it() {
    let scene = scene();
    scene.hosts("external", 1, "127.0.0.1:0");
    let running = scene.begin(&NO_EVALUATION);
    let address = running.address();
    let reason = turned_away(&address);
    for word in ["\"0.0.1\"", &format!("\"{}\"", proto::VERSION), "build both from the same source"] {
        assert!(reason.contains(word), "{word} is not in: {reason}");
    }
    let worker = |rank: &str| {
        let mut worker = Command::new(program("worker"));
        worker.args(["--rank", rank, "--coordinator", &address, "--threads", "1"]);
        Running::start(worker, &scene.run_folder())
    };
    let outside = worker("7").end().with(1);
    outside.says(&["refused rank 7", "out of range"]);
    let inside = worker("0");
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("refused a worker: "), "{}", ended.stderr);
    let _ = inside.end().with(0);
}

/// Joins rank 0 as a worker of another version, and gives the coordinator's answer.
fn turned_away(address: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = RunClient::connect(format!("http://{address}")).await.unwrap();
        let join = Join {
            version: "0.0.1".into(),
            host: "x".into(),
            process: 1,
            device: "cpu".into(),
            ..Join::default()
        };
        let join = WorkerMessage { body: Some(Report::Join(join)), ..WorkerMessage::default() };
        let reports = futures::stream::iter([join]).chain(futures::stream::pending());
        let mut orders = client.session(reports).await.unwrap().into_inner();
        match orders.message().await.unwrap().unwrap().body {
            Some(Order::Refused(refused)) => refused.reason,
            other => panic!("expected Refused, got {other:?}"),
        }
    })
}

/// A pipe whose reader is gone, as `| head -1` leaves it.
fn nobody_reads() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_went_away_makes_no_program_panic() {
    let scene = scene();
    let quiet = |mut command: Command| {
        let child = command.stdout(nobody_reads()).stderr(Stdio::piped()).spawn().unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(!said.contains("panicked"), "{said}");
    };
    quiet(scene.coordinator(&["--dry-run"]));
    let told = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(program(name));
        command.args(arguments);
        command
    };
    quiet(told("coordinator", &["--help"]));
    let (manifest, media) = (scene.text("data/test.jsonl"), scene.text("data/images"));
    quiet(told("coordinator", &["dataset", "check", "--manifest", &manifest, "--media", &media]));
    quiet(told("worker", &["--help"]));
    let mut deaf =
        told("worker", &["logprobs", "--model", "/nowhere", "--input", "/nowhere", "--output", "/nowhere"]);
    let status = deaf.stdout(nobody_reads()).stderr(nobody_reads()).status().unwrap();
    assert_eq!(status.code(), Some(2), "a panic ends with 101");
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_says() {
    let scene = scene();
    let mut command = scene.coordinator(&NO_EVALUATION);
    let status = command.stdout(nobody_reads()).stderr(nobody_reads()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(scene.read("summary.json").contains("\"finished\""));
}
