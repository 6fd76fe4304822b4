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

/// What there is of ports and shared memory before a run.
#[derive(Debug)]
pub struct Before(BTreeSet<Thing>);

/// Something that outlives its maker where it is not taken away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// A TCP socket that listens, by its inode.
    Listening(String),
    /// A file in shared memory.
    Shared(PathBuf),
}

impl Before {
    /// What there is now.
    #[must_use]
    pub fn look() -> Self {
        Self(things())
    }

    /// Asserts that no process of the scene in this folder lives, and that every port and shared memory that is new
    /// is of somebody else who lives.
    pub fn assert_nothing_left(&self, scene: &Path) {
        let processes = processes_of(scene);
        assert!(processes.is_empty(), "processes outlived the run: {processes:#?}");
        let new: BTreeSet<Thing> = things().difference(&self.0).cloned().collect();
        let held = held();
        // What others made and took away meanwhile is not there any more.
        let left: Vec<Thing> =
            things().intersection(&new).filter(|thing| !held.contains(*thing)).cloned().collect();
        assert!(left.is_empty(), "ports or shared memory outlived the run: {left:?}");
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

fn things() -> BTreeSet<Thing> {
    const LISTENS: &str = "0A";
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    let listening = tables.iter().flat_map(|table| table.lines()).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&LISTENS)).then(|| Thing::Listening(fields[9].to_owned()))
    });
    let shared = fs::read_dir("/dev/shm").into_iter().flatten().filter_map(Result::ok);
    listening.chain(shared.map(|entry| Thing::Shared(entry.path()))).collect()
}

/// What living processes hold.
fn held() -> BTreeSet<Thing> {
    let mut held = BTreeSet::new();
    for (_, process) in processes() {
        for file in open(&process) {
            let socket = file.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
            held.insert(
                socket.map_or_else(|| Thing::Shared(file.clone()), |n| Thing::Listening(n.to_owned())),
            );
        }
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        let mapped = maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find("/dev/shm/")?..])));
        held.extend(mapped.map(Thing::Shared));
    }
    held
}
