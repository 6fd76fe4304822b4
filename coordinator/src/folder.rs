//! What lies where in a run folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::report::{COMPLETIONS, CURVES, EVALUATIONS, METRICS, REPORT, SUMMARY};

/// The address that the coordinator listens on: a line `host:port`.
pub const ADDRESS: &str = "address";
/// Who holds the folder: a line for people.
pub const OWNER: &str = "owner";
/// How many seconds before its end a job of this run must be told: a line.
pub const LEAD: &str = "lead";

/// A run folder with its parts made.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Makes the folder and its parts; what is there stays.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn make(root: &Path) -> io::Result<Self> {
        let folder = Self::of_logs(root)?;
        fs::create_dir_all(folder.checkpoints())?;
        Ok(folder)
    }

    /// Makes the folder with no part but that for logs: nothing is trained.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn of_logs(root: &Path) -> io::Result<Self> {
        let folder = Self { root: std::path::absolute(root)? };
        fs::create_dir_all(folder.logs())?;
        Ok(folder)
    }

    /// The folder itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A log a worker and attempt.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of a worker's next process: attempts count from 1, over all coordinators of the run.
    #[must_use]
    pub fn new_log(&self, rank: u32) -> PathBuf {
        let log = |attempt: u32| self.logs().join(format!("rank-{rank}.attempt-{attempt}.log"));
        (1..).map(log).find(|path| !path.exists()).unwrap_or_else(|| log(u32::MAX))
    }

    /// Published checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Forgets what a run without steps left for people.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn forget_lines(&self) -> io::Result<()> {
        for name in [METRICS, EVALUATIONS, COMPLETIONS, REPORT, CURVES, SUMMARY] {
            match fs::remove_file(self.file(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a file whole: beside its place, synced, then renamed into it.
    ///
    /// # Errors
    /// If the file system refuses; the old content then stays.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.file(name);
        let partial = self.file(&format!("{name}.partial"));
        fs::write(&partial, bytes)?;
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &path)?;
        Ok(path)
    }

    /// Marks the folder with something that no other folder holds, and returns it: whoever is elsewhere shows by it that
    /// he sees this folder.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn mark(&self) -> Result<String, Failure> {
        let failed = |e: io::Error| {
            Failure::input(format!("{}: {e}; expected a folder to write to", self.root.display()))
        };
        let mark = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(failed)?.trim().to_owned();
        self.write(proto::MARK, format!("{mark}\n").as_bytes()).map_err(failed)?;
        Ok(mark)
    }

    /// Points the symbolic link `checkpoints/LINK` at a checkpoint, in one rename.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn link(&self, link: &str, checkpoint: &str) -> io::Result<PathBuf> {
        let path = self.checkpoints().join(link);
        let partial = self.checkpoints().join(format!("{link}.partial"));
        match fs::remove_file(&partial) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::os::unix::fs::symlink(checkpoint, &partial)?;
        fs::rename(&partial, &path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_moves_to_the_newest_checkpoint() {
        let root = tempfile::tempdir().expect("temporary folder");
        let folder = RunFolder::make(root.path()).expect("made");
        for name in ["a-step-1", "a-step-2"] {
            fs::create_dir(folder.checkpoints().join(name)).expect("made");
            folder.link("latest", name).expect("linked");
            assert_eq!(fs::read_link(folder.checkpoints().join("latest")).expect("a link"), Path::new(name));
        }
    }
}
