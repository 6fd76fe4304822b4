//! What can go wrong between ranks.

use std::fmt;
use std::time::Duration;

/// Result of a collective call.
pub type Result<T> = std::result::Result<T, Error>;

/// What failed; named in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reaching the rendezvous store.
    Connect,
    /// Forming a group.
    Form,
    /// [`crate::Group::all_reduce`].
    AllReduce,
    /// [`crate::Group::all_gather_base`].
    AllGather,
    /// [`crate::Group::reduce_scatter_base`].
    ReduceScatter,
    /// [`crate::Group::broadcast`].
    Broadcast,
    /// [`crate::Group::shift`].
    Shift,
    /// [`crate::Group::barrier`].
    Barrier,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting to the store",
            Self::Form => "forming the group",
            Self::AllReduce => "all-reduce",
            Self::AllGather => "all-gather",
            Self::ReduceScatter => "reduce-scatter",
            Self::Broadcast => "broadcast",
            Self::Shift => "shift",
            Self::Barrier => "barrier",
        })
    }
}

/// Why a collective operation, or the forming of a group, did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The deadline passed: a peer is silent, or has not come yet.
    #[error("{operation}: no end after {waited:.1?}; a peer is silent or absent")]
    Timeout {
        /// What was waited for.
        operation: Operation,
        /// How long.
        waited: Duration,
    },
    /// A connection to a peer broke, or a peer left.
    #[error("a peer was lost: {detail}")]
    PeerLost {
        /// What the transport says.
        detail: String,
    },
    /// This rank's group was shut down or aborted here.
    #[error("the group is shut down; form the next epoch's group")]
    Closed,
    /// A tensor, or a peer's call, is not what the operation needs.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// Operation and argument.
        what: String,
        /// What fits.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Something that this transport or build cannot do.
    #[error("{what}")]
    Unsupported {
        /// What, and what can be done instead.
        what: String,
    },
    /// libtorch failed in a way that none of the above names.
    #[error("libtorch: {detail}")]
    Internal {
        /// Its message.
        detail: String,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Internal { detail: error.to_string() }
    }
}
