//! An operation under way.

use std::time::Duration;

use crate::{Result, local, native};

/// An operation under way; it keeps its tensors alive until it has really ended.
///
/// Dropped or timed out before its end, it leaves its tensors to the group, which keeps them untouched until
/// the operation ends or the group is shut down.
#[must_use = "an operation's result is there only after its wait"]
#[derive(Debug)]
pub struct Work(Inner);

#[derive(Debug)]
enum Inner {
    Done,
    Native(native::Pending),
    Local(local::Pending),
}

impl Work {
    pub(crate) fn done() -> Self {
        Self(Inner::Done)
    }

    pub(crate) fn native(pending: native::Pending) -> Self {
        Self(Inner::Native(pending))
    }

    pub(crate) fn local(pending: local::Pending) -> Self {
        Self(Inner::Local(pending))
    }

    /// Waits for the end of the operation, at most `deadline` from now (at least a millisecond, at most an hour).
    ///
    /// # Errors
    /// `Error::Timeout` when the deadline passes first: the operation lives on, so shut the group down.
    /// `Error::PeerLost` when a connection breaks, `Error::Closed` when this rank shut the group down,
    /// `Error::Mismatch` when the ranks' calls differ (seen by [`crate::LocalGroup`] only).
    pub fn wait(self, deadline: Duration) -> Result<()> {
        match self.0 {
            Inner::Done => Ok(()),
            Inner::Native(pending) => pending.wait(deadline),
            Inner::Local(pending) => pending.wait(deadline),
        }
    }

    /// Whether the operation has ended, well or not; the result still needs [`Work::wait`].
    #[must_use]
    pub fn is_completed(&self) -> bool {
        match &self.0 {
            Inner::Done => true,
            Inner::Native(pending) => pending.is_completed(),
            Inner::Local(pending) => pending.is_completed(),
        }
    }
}
