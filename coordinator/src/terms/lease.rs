//! What lies in `terms/N`: who holds the term, and how often it was renewed.

use std::fs;
use std::path::Path;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) owner: String,
    renewals: String,
}

pub(super) fn read(path: &Path) -> Lease {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    Lease { owner: next(), renewals: next() }
}

/// `process P on H` of a lease, where H is the host of `own`.
fn process_here(owner: &str, own: &str) -> Option<u32> {
    let parts = |text: &str| {
        let mut words = text.split([' ', ',']);
        let (_, process, _, host) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some((process.parse().ok()?, host.to_owned()))
    };
    let ((process, host), (_, here)): ((u32, String), (u32, String)) = (parts(owner)?, parts(own)?);
    (host == here).then_some(process)
}

/// The holder is an earlier start of our Slurm job: Slurm gave the run to us, whatever a partition keeps alive.
pub(super) fn is_requeued(owner: &str, own: &str) -> bool {
    let job = |text: &str| -> Option<(String, u64)> {
        let (_, job) = text.rsplit_once(", job ")?;
        let (job, restarts) = job.split_once(" restart ")?;
        Some((job.to_owned(), restarts.trim().parse().ok()?))
    };
    match (job(owner), job(own)) {
        (Some((old, before)), Some((new, now))) => old == new && before < now,
        _ => false,
    }
}

fn is_coordinator(process: u32) -> bool {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("coordinator")
}

/// The holder was a process of this host, and is no more.
pub(super) fn is_gone(owner: &str, own: &str) -> bool {
    process_here(owner, own).is_some_and(|process| !is_coordinator(process) || process == std::process::id())
}

pub(super) fn is_here(owner: &str, own: &str) -> bool {
    process_here(owner, own).is_some_and(is_coordinator)
}
