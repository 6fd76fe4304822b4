//! Why the journal cannot be had or written.

use std::path::{Path, PathBuf};

/// Why the journal cannot be had or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("{}: another coordinator holds it{holder}: wait for it to end, or choose another --output", path.display())]
    Held {
        /// The journal.
        path: PathBuf,
        /// ` (process P on H)` where it said so.
        holder: String,
    },
    /// The folder holds a run.
    #[error(
        "{}: holds a run already ({outcome}, {step} steps committed), and --resume is not available yet: choose another --output, or remove the folder",
        folder.display()
    )]
    AnotherRun {
        /// The run folder.
        folder: PathBuf,
        /// How that run ended.
        outcome: String,
        /// Its newest committed step.
        step: u64,
    },
    /// SQLite or the file system refused.
    #[error("{}: {source}; expected a journal that can be written (is the disk full?)", path.display())]
    Sqlite {
        /// The journal.
        path: PathBuf,
        /// The reason.
        source: rusqlite::Error,
    },
}

impl JournalError {
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                let owner = path.with_file_name(crate::folder::OWNER);
                let holder =
                    std::fs::read_to_string(owner).map(|o| format!(" ({})", o.trim())).unwrap_or_default();
                Self::Held { path: path.into(), holder }
            }
            _ => Self::Sqlite { path: path.into(), source },
        }
    }
}
