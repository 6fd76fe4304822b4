//! Loading holds one copy of the weights.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tests::{program, script, text};

/// Beside a tiny model's own peak, one copy and what the allocator keeps is about 1.2; the mapped files beside it would
/// make it 1.7 and more.
#[test]
fn a_model_is_loaded_and_scores_with_one_copy_of_its_weights() {
    let worker = program("worker");
    let arguments = [text(&worker), "--shape", "small", "--beside", "--limit", "1.4"];
    let measured: Value = serde_json::from_str(&script("check_memory.py", &arguments)).unwrap();
    // Large enough that a second copy could not hide beside what libtorch takes for itself.
    assert!(measured["bytes"].as_u64().unwrap() > 200_000_000, "{measured}");
    assert!(measured["ratio"].as_f64().unwrap() > 0.4, "nothing was loaded? {measured}");
}
