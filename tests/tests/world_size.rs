//! How many workers share a step does not change what is learned.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use checkpoint::Dtype;
use checkpoint::weights::WeightFiles;
use tests::root;
use tests::scene::{NO_EVALUATION, Scene, Start};

/// A share of what training moved.
const TOLERANCE: f64 = 0.01;

#[test]
fn two_workers_learn_what_one_learns() {
    let scene = Scene::new(Start::Trained, "{ name: explore, kind: prpo, steps: 5 }");
    let weights = |workers: u32| {
        scene.hosts("local", workers, "127.0.0.1:0");
        let output = scene.text(&format!("run-{workers}"));
        // Few draws: each can fall to the other side of a border by a rounding, and then another text is learned.
        let shape = ["--output", &output, "--set", "parallel.samples_per_step=6"];
        let rollout = ["--set", "rollout={responses: 3, max_new_tokens: 24}"];
        let _ = scene.run(&[shape.as_slice(), &rollout, &NO_EVALUATION].concat()).with(0);
        WeightFiles::open(&Path::new(&output).join("checkpoints/latest")).unwrap()
    };
    let start = WeightFiles::open(&root().join("configs/quickstart/checkpoint")).unwrap();
    let (one, two) = (weights(1), weights(2));
    let (update, difference) = (distance(&one, &start), distance(&one, &two));
    assert!(update > 0.0);
    assert!(difference <= TOLERANCE * update, "{difference} apart, training moved {update}");
}

#[test]
fn workers_that_hold_slices_learn_what_one_that_holds_everything_learns() {
    let scene = Scene::new(Start::Trained, "{ name: explore, kind: prpo, steps: 3 }");
    let weights = |workers: u32, sharding: &str| {
        scene.hosts("local", workers, "127.0.0.1:0");
        let output = scene.text(&format!("run-{sharding}"));
        let sharding = format!("parallel.sharding={sharding}");
        let shape = ["--output", &output, "--set", "parallel.samples_per_step=4", "--set", &sharding];
        let rollout = ["--set", "rollout={responses: 4, max_new_tokens: 32}"];
        let _ = scene.run(&[shape.as_slice(), &rollout, &NO_EVALUATION].concat()).with(0);
        WeightFiles::open(&Path::new(&output).join("checkpoints/latest")).unwrap()
    };
    let start = WeightFiles::open(&root().join("configs/quickstart/checkpoint")).unwrap();
    let one = weights(1, "replicate");
    for sharding in ["optimizer", "full"] {
        let two = weights(2, sharding);
        let (update, difference) = (distance(&one, &start), distance(&one, &two));
        assert!(update > 0.0);
        assert!(difference <= TOLERANCE * update, "{sharding}: {difference} apart, training moved {update}");
    }
}

/// The Euclidean norm of the difference over all weights.
fn distance(a: &WeightFiles, b: &WeightFiles) -> f64 {
    assert!(a.names().eq(b.names()));
    let squares = |name: &str| -> f64 {
        let (a, b) = (values(a, name), values(b, name));
        assert_eq!(a.len(), b.len());
        a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum()
    };
    a.names().map(squares).sum::<f64>().sqrt()
}

fn values(files: &WeightFiles, name: &str) -> Vec<f64> {
    let view = files.tensor(name).unwrap();
    match view.dtype {
        Dtype::F32 => {
            let float = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
            view.bytes.chunks_exact(4).map(|b| f64::from(float(b))).collect()
        }
        Dtype::BF16 => {
            let float = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes(b.try_into().unwrap())) << 16);
            view.bytes.chunks_exact(2).map(|b| f64::from(float(b))).collect()
        }
        other => panic!("{name} is stored as {other:?}"),
    }
}
