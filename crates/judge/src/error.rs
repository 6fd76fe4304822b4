//! Why something cannot be judged.

use std::fmt::Display;
use std::path::Path;

/// Why something cannot be judged, or its files not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The user's to mend: what, where, what was expected.
    #[error("{0}")]
    Input(String),
    /// Somebody else judges into the same output.
    #[error("{0} is in use: another process judges into it; wait for its end, or name another output")]
    Busy(String),
    /// A file could not be written or read.
    #[error("{0}")]
    File(String),
}

impl Error {
    /// What went wrong at a place of the file system.
    pub(crate) fn file(path: &Path, what: impl Display) -> Self {
        Self::File(format!("{}: {what}", path.display()))
    }
}
