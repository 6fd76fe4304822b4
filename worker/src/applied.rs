//! The worker's own record of what it has applied: `logs/applied-rank-R.jsonl` in the run folder, a line a commit.
//! Whether every sample was trained on once can be told from these files, without believing the journal.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tracing::warn;

/// Where the lines go.
#[derive(Clone, Debug)]
pub struct AppliedLog {
    path: PathBuf,
}

/// A step that this rank has applied, or let pass.
#[derive(Debug, Serialize)]
pub struct AppliedStep<'a> {
    /// Its number.
    pub step: u64,
    /// Which attempt at it.
    pub attempt: u32,
    /// Whether nothing was applied.
    pub skip: bool,
    /// Of this worker.
    pub incarnation: u64,
    /// Of the coordinator that ordered it.
    pub term: u64,
    /// Ids of this rank's share.
    pub samples: &'a [String],
}

/// State came from elsewhere: what was applied up to it counts as done here.
#[derive(Debug, Serialize)]
struct RestoredStep {
    restored: u64,
    incarnation: u64,
}

impl AppliedLog {
    /// That of `rank`, in the run folder `output`.
    #[must_use]
    pub fn of(output: &Path, rank: u32) -> Self {
        Self { path: output.join("logs").join(format!("applied-rank-{rank}.jsonl")) }
    }

    /// A step was applied.
    pub fn applied(&self, step: &AppliedStep<'_>) {
        self.note(step);
    }

    /// The state after `step` was taken from another worker or a checkpoint, by this incarnation.
    pub fn restored(&self, step: u64, incarnation: u64) {
        self.note(&RestoredStep { restored: step, incarnation });
    }

    /// A record that cannot be written must not end a run.
    fn note(&self, line: &impl Serialize) {
        if let Err(error) = self.append(line) {
            warn!("{}: {error}: what this worker applies is not recorded", self.path.display());
        }
    }

    fn append(&self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let whole = file.metadata()?.len();
        file.write_all(text.as_bytes()).inspect_err(|_| {
            // On a full disk half a line may be there, and the next one is not to stand behind it.
            let _ = file.set_len(whole);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_the_folder_is_made() {
        let output = tempfile::tempdir().expect("temporary folder");
        let log = AppliedLog::of(&output.path().join("run"), 3);
        let samples = ["a".to_owned(), "b".to_owned()];
        log.applied(&AppliedStep {
            step: 4,
            attempt: 2,
            skip: false,
            incarnation: 7,
            term: 1,
            samples: &samples,
        });
        log.restored(6, 8);
        let text = fs::read_to_string(output.path().join("run/logs/applied-rank-3.jsonl")).expect("written");
        assert_eq!(
            text,
            "{\"step\":4,\"attempt\":2,\"skip\":false,\"incarnation\":7,\"term\":1,\"samples\":[\"a\",\"b\"]}\n\
             {\"restored\":6,\"incarnation\":8}\n"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_warning() {
        AppliedLog::of(Path::new("/proc/none"), 0).restored(1, 1);
    }
}
