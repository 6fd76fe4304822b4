//! Why a term cannot be had, or is lost.

use std::io;
use std::path::{Path, PathBuf};

use super::HOLD;

/// Why a term cannot be had, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum TermError {
    /// Another coordinator lives.
    #[error("{}: another coordinator holds it ({holder}): wait for it to end, or choose another --output", folder.display())]
    Held {
        /// The run folder.
        folder: PathBuf,
        /// `process P on H, …`.
        holder: String,
    },
    /// A later term was claimed.
    #[error(
        "another coordinator has taken over this run ({holder}): term {newest} follows our {own}; this one changes nothing any more"
    )]
    Superseded {
        /// Ours.
        own: u64,
        /// The newest.
        newest: u64,
        /// Who has it.
        holder: String,
    },
    /// The lease could not be renewed in time.
    #[error("{}: the term's lease could not be renewed for {} s{}: another coordinator may have taken over, so this one stops", path.display(), HOLD.as_secs(), why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Expired {
        /// The lease.
        path: PathBuf,
        /// What the file system said to the last try, if it refused.
        why: Option<String>,
    },
    /// The file system refused.
    #[error("{}: {source}; expected a folder that can be written to", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl TermError {
    /// The term is lost for good; otherwise it is not known to be.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Superseded { .. } | Self::Expired { .. })
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
