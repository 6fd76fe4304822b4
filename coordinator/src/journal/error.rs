//! Why the journal cannot be had or written.

use std::path::{Path, PathBuf};

use crate::terms::TermError;

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
        "{}: holds a run already ({outcome}, {step} steps committed): give --resume to go on with it, choose another --output, or remove the folder",
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
    /// The folder's terms lack that of a journal in it.
    #[error(
        "{}: is of a later term than {}/terms knows: put terms/ back as it was, or, if it is lost, make the empty file {}/terms/{term}",
        path.display(),
        folder.display(),
        folder.display()
    )]
    TermsMissing {
        /// The run folder.
        folder: PathBuf,
        /// The journal.
        path: PathBuf,
        /// Its term.
        term: u64,
    },
    /// The recipe is not the one that the run began with.
    #[error(
        "{}: --resume: the recipe differs from the one that the run began with in {changed}; keys that may change are recovery, faults, checkpoint.every, checkpoint.keep and run.output: take the others back, or choose another --output",
        folder.display()
    )]
    OtherRecipe {
        /// The run folder.
        folder: PathBuf,
        /// The keys, with both values.
        changed: String,
    },
    /// A record is none that this version knows.
    #[error("{}: record {seq} cannot be read ({reason}): was the journal written by another version?", path.display())]
    Unreadable {
        /// The journal.
        path: PathBuf,
        /// Its place.
        seq: i64,
        /// Why.
        reason: String,
    },
    /// The file of an earlier term cannot be copied.
    #[error("{}: {source}; expected an earlier coordinator's journal", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It does not say everything that was recorded.
    #[error("{}: damaged ({reason}), and the run cannot go on without what it recorded: put a whole copy in its place, or {way_out}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// As SQLite has it, or what is missing.
        reason: String,
        /// What else can be done.
        way_out: String,
    },
    /// An earlier coordinator still writes.
    #[error("{}: is still being written to by the coordinator before this one: end that process (the file owner names it), then try again", path.display())]
    Changing {
        /// The journal.
        path: PathBuf,
    },
    /// The term is another's.
    #[error(transparent)]
    Term(#[from] TermError),
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
