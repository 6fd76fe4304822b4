//! Putting a folder of files in place so that it is there whole or not at all.
//!
//! Files are written and synced in a staging folder beside the target, the manifest last; then one rename
//! makes them visible, and the parent folder is synced. A crash leaves a staging folder, never half a target.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::sha256_file;
use crate::manifest::{FileDigest, MANIFEST, Manifest};

/// Why files could not be written, published or verified.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A weight file could not be laid out.
    #[error("cannot write {}: {reason}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong with its tensors.
        reason: String,
    },
    /// The target is there already; a published folder is never overwritten.
    #[error("{} exists already: a checkpoint is never overwritten, remove it or choose another output", .0.display())]
    Exists(PathBuf),
    /// A manifest or a configuration file does not hold what it must.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A file is not the one that the manifest describes.
    #[error("{}: {what} is {found}, the manifest says {expected}: the checkpoint is damaged, use an older one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// `size` or `sha256`.
        what: &'static str,
        /// As found.
        found: String,
        /// As the manifest says.
        expected: String,
    },
}

impl PublishError {
    /// For `map_err` on the file system's answers.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A folder being filled; removed again if it is dropped before [`Staging::publish`].
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Staging {
    /// Starts an empty staging folder beside `target`, on the same file system; a staging folder that a
    /// crashed writer left there is removed.
    ///
    /// # Errors
    /// If `target` exists already, has no name, or the folder cannot be made.
    pub fn begin(target: &Path) -> Result<Self, PublishError> {
        Self::begin_as(target, "")
    }

    /// [`Staging::begin`] in a folder that `writer` names too: writers of other names never write into it.
    ///
    /// # Errors
    /// As [`Staging::begin`].
    pub fn begin_as(target: &Path, writer: &str) -> Result<Self, PublishError> {
        if target.exists() {
            return Err(PublishError::Exists(target.to_owned()));
        }
        let Some(name) = target.file_name() else {
            let reason = "a checkpoint folder needs a name".to_owned();
            return Err(PublishError::Malformed { path: target.to_owned(), reason });
        };
        let mut staging = name.to_os_string();
        if !writer.is_empty() {
            staging.push(format!(".{writer}"));
        }
        staging.push(".partial");
        let folder = target.with_file_name(staging);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(PublishError::io("remove", &folder))?;
        }
        fs::create_dir_all(&folder).map_err(PublishError::io("create", &folder))?;
        Ok(Self { folder, target: target.to_owned(), published: false })
    }

    /// Where the files are to be written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes the manifest last, syncs everything and renames the folder into place.
    ///
    /// # Errors
    /// If a step of it fails; the target then does not exist.
    pub fn publish(self, manifest: &Manifest) -> Result<PathBuf, PublishError> {
        self.publish_if(manifest, || Ok(()))
    }

    /// [`Staging::publish`] by one of several writers, of whom `may` says directly before the rename whether it is
    /// still this one's turn.
    ///
    /// # Errors
    /// If a step of it fails, or `may` does; the target is then left as it was.
    pub fn publish_if<E: From<PublishError>>(
        mut self,
        manifest: &Manifest,
        may: impl FnOnce() -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let folders: BTreeSet<&Path> =
            manifest.files.keys().filter_map(|name| Path::new(name).parent()).collect();
        folders.into_iter().try_for_each(|folder| sync(&self.folder.join(folder)))?;
        manifest.write(&self.folder)?;
        sync(&self.folder)?;
        may()?;
        fs::rename(&self.folder, &self.target).map_err(PublishError::io("publish", &self.target))?;
        self.published = true;
        let parent = self.target.parent().filter(|p| !p.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new(".")))?;
        Ok(self.target.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // A failed removal leaves a `.partial` folder, which the next coordinator removes.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Flushes a file or a folder to the disk.
pub(crate) fn sync(path: &Path) -> Result<(), PublishError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(PublishError::io("sync", path))
}

/// Writes a small file, and syncs it.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    fs::write(path, bytes).map_err(PublishError::io("write", path))?;
    sync(path)
}

/// Size and digest of a file just written, after syncing it.
pub(crate) fn seal(path: &Path) -> Result<FileDigest, PublishError> {
    sync(path)?;
    let bytes = fs::metadata(path).map_err(PublishError::io("read", path))?.len();
    Ok(FileDigest { bytes, sha256: sha256_file(path).map_err(PublishError::io("read", path))? })
}

/// Checks a published folder against its manifest: every listed file is there, with its size and digest.
///
/// # Errors
/// If the manifest is missing or malformed, or a file is missing or differs.
pub fn verify(folder: &Path) -> Result<Manifest, PublishError> {
    let manifest = Manifest::read(folder)?;
    for (name, expected) in &manifest.files {
        let path = folder.join(name);
        let bytes = fs::metadata(&path).map_err(PublishError::io("read", &path))?.len();
        let damaged = |what, found: String, expected: String| PublishError::Damaged {
            path: path.clone(),
            what,
            found,
            expected,
        };
        if bytes != expected.bytes {
            return Err(damaged("size", bytes.to_string(), expected.bytes.to_string()));
        }
        let sha256 = sha256_file(&path).map_err(PublishError::io("read", &path))?;
        if sha256 != expected.sha256 {
            return Err(damaged("sha256", sha256, expected.sha256.clone()));
        }
    }
    debug_assert!(!manifest.files.contains_key(MANIFEST), "a manifest cannot hold its own digest");
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn published(root: &Path) -> PathBuf {
        let staging = Staging::begin(&root.join("step-1")).expect("fresh folder");
        let file = staging.path().join("a.bin");
        fs::write(&file, b"weights").expect("writable");
        let files = BTreeMap::from([("a.bin".to_owned(), seal(&file).expect("readable"))]);
        staging.publish(&Manifest { files, about: BTreeMap::new() }).expect("published")
    }

    #[test]
    fn a_published_folder_verifies_and_leaves_no_staging_folder() {
        let root = tempfile::tempdir().expect("temporary folder");
        let folder = published(root.path());
        assert_eq!(verify(&folder).expect("whole").files.len(), 1);
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_changed_byte_a_lost_byte_and_a_lost_file_are_each_named() {
        let root = tempfile::tempdir().expect("temporary folder");
        let folder = published(root.path());
        let file = folder.join("a.bin");
        fs::write(&file, b"weighty").expect("writable");
        assert!(verify(&folder).expect_err("changed").to_string().contains("sha256"));
        fs::write(&file, b"weight").expect("writable");
        let message = verify(&folder).expect_err("shorter").to_string();
        assert!(message.contains("size is 6, the manifest says 7"), "{message}");
        fs::remove_file(&file).expect("removable");
        assert!(verify(&folder).expect_err("lost").to_string().contains("a.bin"));
    }

    #[test]
    fn a_writer_that_gives_up_leaves_nothing() {
        let root = tempfile::tempdir().expect("temporary folder");
        drop(Staging::begin(&root.path().join("step-1")).expect("fresh folder"));
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_writer_whose_turn_is_over_publishes_nothing() {
        let root = tempfile::tempdir().expect("temporary folder");
        let staging = Staging::begin(&root.path().join("step-1")).expect("fresh folder");
        let manifest = Manifest { files: BTreeMap::new(), about: BTreeMap::new() };
        let over = PublishError::Exists("another's".into());
        assert!(staging.publish_if(&manifest, || Err(over)).is_err());
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_published_folder_is_never_overwritten() {
        let root = tempfile::tempdir().expect("temporary folder");
        let folder = published(root.path());
        assert!(matches!(Staging::begin(&folder), Err(PublishError::Exists(_))));
    }
}
