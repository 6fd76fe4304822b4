//! The small recipes as they stand, over less data and fewer steps: two stages, videos, the other reward.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::recovery::journal;
use tests::running::Running;
use tests::scene::{Scene, Start};
use tests::{cache, program, root};

/// Pictures and hosts; the recipe is the twin's.
fn scene() -> Scene {
    Scene::new(Start::Trained, "{ name: unused, kind: prpo, steps: 1 }")
}

/// `recipe` of configs with what is set over it.
fn train(scene: &Scene, recipe: &str, sets: &[&str]) {
    let mut command = Command::new(program("coordinator"));
    command.current_dir(root()).args(["--nodes", &scene.text("hosts.yaml"), "--output", &scene.text("run")]);
    command.args(["--recipe", &format!("configs/{recipe}")]);
    for set in sets {
        command.args(["--set", set]);
    }
    let _ = Running::start(command, &scene.run_folder()).end().with(0);
}

fn pictures(scene: &Scene) -> Vec<String> {
    let data = scene.path("data");
    let set = |part: &str| {
        let (manifest, media) = (data.join(format!("{part}.jsonl")), data.join("images"));
        format!("data.{part}=[{{ name: p, manifest: {}, media: {} }}]", manifest.display(), media.display())
    };
    ["train", "validation", "test"].map(set).into()
}

/// Of each step, how many responses each of its samples got.
fn responses(scene: &Scene, step: u32) -> Vec<usize> {
    let question = format!(
        "SELECT json_group_array(json_array_length(responses, '$.texts')) FROM rollouts WHERE step = {step}"
    );
    serde_json::from_str(&journal::<String>(&scene.run_folder(), &question)).unwrap()
}

/// Stage, moment and sets of every evaluation.
fn evaluations(scene: &Scene) -> Vec<(u64, u64, String)> {
    let told = |line: Value| {
        assert!(line["metrics"]["reward"].is_f64(), "{line}");
        let number = |name: &str| line[name].as_u64().unwrap();
        (number("stage"), number("step"), line["set"].as_str().unwrap().to_owned())
    };
    scene.lines("evaluations.jsonl").into_iter().map(told).collect()
}

#[test]
fn two_stages_run_one_after_the_other_with_their_own_k_and_a_fresh_schedule() {
    let scene = scene();
    let data = pictures(&scene);
    let mut sets: Vec<&str> = data.iter().map(String::as_str).collect();
    sets.extend(["stages.explore.steps=2", "stages.stabilise.steps=2", "optimizer.warmup_steps=1"]);
    sets.extend([
        "stages.explore.parallel.samples_per_step=2",
        "stages.stabilise.parallel.samples_per_step=2",
    ]);
    sets.extend(["evaluation.samples=4", "evaluation.responses=1"]);
    train(&scene, "small_two_stage.yaml", &sets);
    assert_eq!((responses(&scene, 1), responses(&scene, 3)), (vec![12; 2], vec![6; 2]));
    let rates: Vec<f64> =
        scene.lines("metrics.jsonl").iter().map(|line| line["lr"].as_f64().unwrap()).collect();
    assert_eq!(rates[..2], rates[2..], "each stage begins its schedule anew");
    let told = evaluations(&scene);
    for (stage, step, set) in
        [(0, 0, "validation"), (0, 0, "test"), (0, 2, "validation"), (1, 4, "validation"), (1, 4, "test")]
    {
        assert!(told.contains(&(stage, step, set.into())), "{stage} {step} {set} is not among {told:?}");
    }
    let report = scene.read("report.html");
    assert!(report.contains("explore") && report.contains("stabilise") && report.contains("All evaluations"));
}

#[test]
fn the_other_reward_trains_on_the_same_pictures() {
    let scene = scene();
    let data = pictures(&scene);
    let mut sets: Vec<&str> = data.iter().map(String::as_str).collect();
    sets.extend(["stages.visualquality_r1.steps=1", "parallel.samples_per_step=3"]);
    sets.extend(["evaluation.samples=4", "evaluation.responses=1", "optimizer.warmup_steps=0"]);
    train(&scene, "small_visualquality_r1.yaml", &sets);
    assert_eq!(responses(&scene, 1), [6; 3]);
    assert!(scene.lines("metrics.jsonl")[0]["metrics"]["reward"].is_f64());
}

/// Two videos as FFmpeg has them, in the published form of label files.
#[test]
fn videos_are_answered_about_and_then_trained_on() {
    let scene = scene();
    let videos = cache().join("videos");
    for (part, text) in [
        ("train", "bikes.mp4 4.1\ncarphone_pristine.mp4 2.3\n"),
        ("test", "carphone_pristine.mp4 3.5\nbikes.mp4 1.5\n"),
    ] {
        fs::write(scene.path(part), text).unwrap();
    }
    let set = |part: &str| {
        format!("data.{part}=[{{ name: v, manifest: {}, media: {} }}]", scene.text(part), videos.display())
    };
    let (train_set, test_set) = (set("train"), set("test"));
    let frames = format!("data.frame_cache={}", scene.text("frames"));
    let sets = [
        train_set.as_str(),
        "data.validation=[]",
        &test_set,
        &frames,
        "stages.answer.steps=1",
        "stages.answer.parallel.samples_per_step=2",
        "stages.answer.optimizer.warmup_steps=0",
        "stages.prpo.steps=1",
        "stages.prpo.parallel.samples_per_step=2",
        "stages.prpo.reward.group_samples=1",
        "stages.prpo.optimizer.warmup_steps=0",
        "evaluation.responses=1",
    ];
    train(&scene, "small_vqa.yaml", &sets);
    assert_eq!(responses(&scene, 2), [5; 2]);
    assert!(Path::new(&scene.text("frames")).read_dir().unwrap().count() > 0, "frames are kept");
    assert!(evaluations(&scene).contains(&(1, 2, "test".into())));
}
