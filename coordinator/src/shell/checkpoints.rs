//! Checkpoint folders: staged, verified, published, linked, removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use checkpoint::{FileDigest, Manifest, PublishError, Staging, sha256_file};
use tokio::sync::mpsc;

use crate::engine::{CheckpointName, CheckpointRecord, Event};
use crate::failure::Failure;
use crate::folder::{LEAD, RunFolder};
use crate::journal::Lead;
use crate::tell;
use crate::terms::{Fence, TermError};

/// The link to the newest checkpoint.
const LATEST: &str = "latest";

/// What a folder's name ends with that is being removed.
const REMOVED: &str = ".removed";
/// What one's ends with that is being written.
const PARTIAL: &str = ".partial";

/// The run's checkpoints.
pub(super) struct Checkpoints {
    folder: RunFolder,
    run_id: String,
    fence: Fence,
    /// Set aside so far.
    removed: u64,
    /// The one being written.
    staging: Option<Staging>,
    newest: Option<PathBuf>,
}

impl Checkpoints {
    /// The checkpoints of a run; what earlier coordinators did not come to finish or to remove is removed.
    pub(super) fn new(folder: RunFolder, run_id: String, fence: Fence) -> Self {
        let entries = std::fs::read_dir(folder.checkpoints()).into_iter().flatten();
        let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_left = |path: &PathBuf| {
            let name = path.to_string_lossy();
            // Of the term before this one workers may write still.
            let is_old = || writer(&name).is_some_and(|term| term + 1 < fence.number());
            name.ends_with(REMOVED) || is_old()
        };
        names.filter(is_left).for_each(remove);
        Self { folder, run_id, fence, removed: 0, staging: None, newest: None }
    }

    /// An empty folder for a checkpoint's files, named by its writer's term and epoch too: what a worker that was cut
    /// off still writes lands elsewhere.
    pub(super) fn stage(&mut self, name: &CheckpointName, epoch: u64) -> Result<PathBuf, Failure> {
        let target = self.folder.checkpoints().join(name.to_string());
        if target.exists() {
            // Published, and the journal does not know: its coordinator died between the two.
            self.set_aside(&target)
                .map_err(|e| Failure::other(format!("cannot remove {}: {e}", target.display())))?;
        }
        let writer = format!("{}.{epoch}", self.fence.number());
        let staging = Staging::begin_as(&target, &writer).map_err(Failure::other)?;
        let path = staging.path().to_owned();
        self.staging = Some(staging);
        Ok(path)
    }

    /// Checks the staged files against the digests that their writers report, and puts the folder in place; off
    /// this thread, because files may be large.
    pub(super) fn publish(
        &mut self,
        about: CheckpointRecord,
        digests: BTreeMap<String, String>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<(), Failure> {
        let name = about.name.to_string();
        let staging =
            self.staging.take().ok_or_else(|| Failure::other(format!("checkpoint {name} was not staged")))?;
        let facts = BTreeMap::from([
            ("run".to_owned(), self.run_id.clone()),
            ("stage".to_owned(), about.name.stage.clone()),
            ("step".to_owned(), about.step.to_string()),
            ("weights".to_owned(), about.digest.clone()),
        ]);
        let fence = self.fence.clone();
        tokio::task::spawn_blocking(move || {
            let published =
                verified(staging.path(), &digests).map_err(Unpublished::Failed).and_then(|files| {
                    let may = || fence.check().map_err(Unpublished::from);
                    staging.publish_if(&Manifest { files, about: facts }, may)
                });
            let event = match published {
                Ok(_) => Event::CheckpointPublished(about),
                Err(Unpublished::TermLost(reason)) => Event::TermLost { reason },
                Err(Unpublished::Failed(reason)) => {
                    Event::Trouble { reason: format!("checkpoint {name}: {reason}"), exit_code: 1 }
                }
            };
            // Nobody listens once the run is over.
            let _ = events.send(event);
        });
        Ok(())
    }

    /// Looks whether a published checkpoint is whole, off this thread.
    pub(super) fn open(&self, name: CheckpointName, events: mpsc::UnboundedSender<Event>) {
        let folder = self.folder.checkpoints().join(name.to_string());
        tokio::task::spawn_blocking(move || {
            let event = match checkpoint::verify(&folder) {
                Ok(_) => Event::CheckpointOpened { name, folder },
                Err(error) => {
                    tell::err(format_args!("checkpoint {name} cannot be used: {error}"));
                    Event::CheckpointBroken { name }
                }
            };
            // Nobody listens once the run is over.
            let _ = events.send(event);
        });
    }

    /// Points `latest` at a published checkpoint; its path.
    pub(super) fn published(&mut self, name: &CheckpointName) -> Result<PathBuf, Failure> {
        let name = name.to_string();
        self.folder
            .link(LATEST, &name)
            .map_err(|e| Failure::other(format!("cannot link checkpoint {name}: {e}")))?;
        let path = self.folder.checkpoints().join(name);
        self.newest = Some(path.clone());
        Ok(path)
    }

    /// Says to the job's script how long a checkpoint takes.
    pub(super) fn measured(&self, lead: Lead) -> Result<(), Failure> {
        let written = self.folder.write(LEAD, format!("{}\n", lead.seconds()).as_bytes());
        written.map(drop).map_err(|e| Failure::other(format!("{}: {e}", self.folder.file(LEAD).display())))
    }

    /// Removes one, unless an earlier coordinator did. That it cannot is no reason to stop.
    pub(super) fn remove(&mut self, name: &CheckpointName) {
        let path = self.folder.checkpoints().join(name.to_string());
        if let Err(error) = self.set_aside(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }

    /// Gives a folder a name of this term's own, and removes it there, off this thread.
    fn set_aside(&mut self, path: &Path) -> std::io::Result<()> {
        self.removed += 1;
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}.{}{REMOVED}", self.fence.number(), self.removed));
        let aside = PathBuf::from(aside);
        std::fs::rename(path, &aside)?;
        remove(aside);
        Ok(())
    }

    /// The newest published checkpoint.
    pub(super) fn newest(&self) -> Option<PathBuf> {
        self.newest.clone()
    }
}

/// The term of the coordinator that had a checkpoint written to `NAME.TERM.EPOCH.partial`.
fn writer(path: &str) -> Option<u64> {
    path.strip_suffix(PARTIAL)?.rsplit('.').nth(1)?.parse().ok()
}

/// Removes a folder that nobody else knows of, off this thread: it may hold many large files.
fn remove(path: PathBuf) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    });
}

/// Why a checkpoint was not published.
enum Unpublished {
    Failed(String),
    TermLost(String),
}

impl From<PublishError> for Unpublished {
    fn from(error: PublishError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<TermError> for Unpublished {
    fn from(error: TermError) -> Self {
        if error.is_loss() { Self::TermLost(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// Every reported file's size and digest, as found; refused where the digest is not the reported one.
fn verified(
    folder: &Path,
    digests: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, FileDigest>, String> {
    if digests.is_empty() {
        return Err("the writer reports no files".into());
    }
    let mut files = BTreeMap::new();
    for (name, reported) in digests {
        if !checkpoint::stays_within(name) {
            return Err(format!(
                "the writer reports {name:?}; expected a file within the checkpoint's folder"
            ));
        }
        let path = folder.join(name);
        let bytes = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len();
        let sha256 = sha256_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if sha256 != *reported {
            return Err(format!("{}: sha256 is {sha256}, its writer reports {reported}", path.display()));
        }
        files.insert(name.clone(), FileDigest { bytes, sha256 });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_what_its_writer_reports_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("a"), b"abc").expect("writable");
        let of = |name: &str, digest: &str| BTreeMap::from([(name.to_owned(), digest.to_owned())]);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(verified(folder.path(), &of("a", abc)).expect("whole")["a"].bytes, 3);
        assert!(
            verified(folder.path(), &of("a", "00")).expect_err("differs").contains("its writer reports 00")
        );
        assert!(verified(folder.path(), &of("b", abc)).is_err());
        assert!(
            verified(folder.path(), &of("../a", abc)).expect_err("outside").contains("within the checkpoint")
        );
        assert!(verified(folder.path(), &BTreeMap::new()).is_err());
    }

    #[test]
    fn an_unfinished_checkpoint_says_of_which_term_it_is() {
        assert_eq!(writer("/runs/r.1/checkpoints/a.b-step-5.2.7.partial"), Some(2));
        for name in ["latest.partial", "a-step-5.partial", "a-step-5.2.7", "a-step-5.2.7.removed"] {
            assert_eq!(writer(name), None, "{name}");
        }
    }
}
