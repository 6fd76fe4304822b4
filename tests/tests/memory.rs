//! Loading holds one copy of the weights.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tests::{program, script, text};

/// A tiny model's own peak is a moment before its weights are there, so one copy counts as less than one above it: 0.7;
/// with the mapped files beside it, it was 1.25.
#[test]
fn a_model_is_loaded_and_scores_with_one_copy_of_its_weights() {
    let worker = program("worker");
    let arguments = [text(&worker), "--shape", "small", "--beside", "--limit", "1.0"];
    let measured: Value = serde_json::from_str(&script("check_memory.py", &arguments)).unwrap();
    // Large enough that a second copy could not hide beside what libtorch takes for itself.
    assert!(measured["bytes"].as_u64().unwrap() > 200_000_000, "{measured}");
    assert!(measured["ratio"].as_f64().unwrap() > 0.4, "nothing was loaded? {measured}");
}
