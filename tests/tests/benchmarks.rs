//! The benchmarks in a short form: they run, compare like with like, and print a ratio.

use tests::{cache, program, script, text};

#[test]
fn the_rollout_benchmark_prints_a_ratio() {
    let worker = program("worker");
    let short = ["--sizes", "5M", "--samples", "2", "--responses", "2", "--tokens", "8", "--runs", "1"];
    let text = script("bench_rollout.py", &[&[worker.to_str().expect("UTF-8")], short.as_slice()].concat());
    let ratio = text.lines().find_map(|line| line.trim().strip_prefix("ratio")).expect("a line of the ratio");
    let ratio: f64 = ratio.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(ratio > 0.0, "{text}");
}

/// The script fails where a world leaves the formula of docs/benchmarks.md, or takes no less than a smaller one.
#[test]
fn a_rank_under_full_takes_the_memory_that_the_formula_says() {
    let (worker, cache) = (program("worker"), cache().join("bench-models"));
    let programs = worker.parent().expect("a folder");
    script("check_sharded_memory.py", &[text(programs), "--cache", text(&cache)]);
}
