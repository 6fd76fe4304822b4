//! The benchmarks in a short form: they run, compare like with like, and print a ratio.

use tests::{program, script};

#[test]
fn the_rollout_benchmark_prints_a_ratio() {
    let worker = program("worker");
    let short = ["--sizes", "5M", "--samples", "2", "--responses", "2", "--tokens", "8", "--runs", "1"];
    let text = script("bench_rollout.py", &[&[worker.to_str().expect("UTF-8")], short.as_slice()].concat());
    let ratio = text.lines().find_map(|line| line.trim().strip_prefix("ratio")).expect("a line of the ratio");
    let ratio: f64 = ratio.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(ratio > 0.0, "{text}");
}
