//! The control plane at scale: the real coordinator with N light workers (real gRPC, no tensors) on one machine, and
//! the engine alone. Times are of one clock: all light workers live in this process, the coordinator in its own.
//!
//! ```text
//! cargo bench -p coordinator --bench control -- [N …]      (10 100 1000)
//! ```
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod alone;
mod crowd;
mod figures;
mod ground;
#[path = "../../tests/train/light.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod light;

/// Members that the engine alone is measured at.
const ALONE: &[u32] = &[10, 100, 1_000, 10_000];

fn main() {
    // Cargo says --bench; what is a number is a number of workers.
    let mut sizes: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10, 100, 1_000];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{}", figures::HEAD);
    for workers in sizes {
        println!("{}", runtime.block_on(crowd::measure(workers)));
    }
    println!("\n{}", alone::HEAD);
    for members in ALONE {
        println!("{}", alone::measure(*members));
    }
}
