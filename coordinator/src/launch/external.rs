//! Somebody else starts the workers: say what.

use super::WorkerSpec;

/// What to start, a line a worker.
#[must_use]
pub(super) fn instructions(workers: &[WorkerSpec], address: &str) -> String {
    let lines =
        workers.iter().map(|w| format!("  worker {}    # on {}", w.arguments(address).join(" "), w.host));
    format!("start these workers, in any order:\n{}", lines.collect::<Vec<_>>().join("\n"))
}
