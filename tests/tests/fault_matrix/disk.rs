//! A file system that is full for a while.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::moments::Moment;
use tests::trial::Trial;

use crate::planned;

/// A small file system of its own; taken away when dropped.
struct Small(PathBuf);

impl Small {
    fn new(place: PathBuf) -> Self {
        std::fs::create_dir(&place).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=640m", "tmpfs"]).arg(&place);
        assert!(mount.status().unwrap().success(), "mount, which takes root");
        Self(place)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes what is left of the room.
    fn fill(&self) {
        let file = format!("of={}", self.filler().display());
        let filled = Command::new("dd").args(["if=/dev/zero", "bs=64k", &file]).output().unwrap();
        let said = String::from_utf8_lossy(&filled.stderr).into_owned();
        assert!(!filled.status.success() && said.contains("No space left"), "{said}");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What could not be written is told; what was written stays.
#[test]
fn a_full_disk_stops_the_run_with_a_word_and_it_goes_on_when_there_is_room() {
    let trial = Trial::new("local", 2, &["checkpoint.every=1"]);
    for &moment in planned(&Moment::ALL, &[Moment::Checkpoint]) {
        let small = Small::new(trial.scene.path(&format!("small-{moment:?}")));
        let run: &Path = &small.0.join("run");
        let mut attempt = trial.start_in(run, moment.faults(2, "wait"), &[]);
        attempt.comes_to(0);
        small.fill();
        attempt.let_go(0);
        let down = attempt.ends(Some(1));
        // The coordinator's word, or a worker's.
        let told =
            ["is the disk full?", "No space left on device"].iter().any(|word| down.said.contains(word));
        assert!(told, "{moment:?}:\n{}", down.said);
        small.make_room();
        down.resume().finishes(&format!("a full disk at {moment:?}")).leaves_nothing();
    }
}
