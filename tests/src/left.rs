//! What a run leaves on its machine beside its files: nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In the environment of every process of a scene, and so of whatever these start.
const MARK: &str = "RUN_UNDER_TEST";

/// Marks what the command starts as the scene's in this folder.
pub fn mark(command: &mut Command, scene: &Path) {
    command.env(MARK, scene);
}

/// The files in shared memory before a run: they outlive their maker where they are not taken away. Ports are closed with
/// the last process that holds them.
#[derive(Debug)]
pub struct Before(BTreeSet<PathBuf>);

impl Before {
    /// What there is now.
    #[must_use]
    pub fn look() -> Self {
        Self(shared())
    }

    /// Asserts that no process of the scene in this folder lives, and with it no port, and that all shared memory that is
    /// new is of somebody else who lives.
    pub fn assert_nothing_left(&self, scene: &Path) {
        let processes = processes_of(scene);
        assert!(processes.is_empty(), "processes outlived the run: {processes:#?}");
        let new: BTreeSet<PathBuf> = shared().difference(&self.0).cloned().collect();
        let held = held();
        // What others made and took away meanwhile is not there any more.
        let left: Vec<PathBuf> =
            shared().intersection(&new).filter(|file| !held.contains(*file)).cloned().collect();
        assert!(left.is_empty(), "shared memory outlived the run: {left:?}");
    }
}

/// The living processes of the scene in this folder, by number, with their command lines: those that have its mark, name
/// the folder, or hold a file of it.
#[must_use]
pub fn processes_of(scene: &Path) -> BTreeMap<u32, String> {
    let folder = scene.display().to_string();
    let marked = format!("{MARK}={folder}");
    let is_of = |process: &Path| {
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let has = |name: &str, word: &str| String::from_utf8_lossy(&read(name)).contains(word);
        has("environ", &marked)
            || has("cmdline", &folder)
            || open(process).iter().any(|file| file.starts_with(scene))
    };
    let own = std::process::id();
    let all = processes().filter(|(number, process)| *number != own && is_of(process));
    all.map(|(number, process)| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        (number, String::from_utf8_lossy(&line).replace('\0', " "))
    })
    .collect()
}

fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").expect("a list of processes").filter_map(Result::ok);
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// What a process's file descriptors lead to.
fn open(process: &Path) -> Vec<PathBuf> {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok);
    descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).collect()
}

fn shared() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).collect()
}

/// The files in shared memory that living processes hold.
fn held() -> BTreeSet<PathBuf> {
    let mut held = BTreeSet::new();
    for (_, process) in processes() {
        held.extend(open(&process));
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        held.extend(maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find("/dev/shm/")?..]))));
    }
    held
}
