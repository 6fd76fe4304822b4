//! What every message carries: where in the run it belongs.

use proto::v1::WorkerMessage;
use proto::v1::worker_message::Body as Report;

/// Where messages are in the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub(crate) rank: u32,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    /// Which of this process's streams it came on; not sent.
    pub(crate) stream: u64,
}

impl Stamp {
    /// The epoch that an order belongs to.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// This worker's, as the coordinator assigned it.
    #[must_use]
    pub fn incarnation(self) -> u64 {
        self.incarnation
    }

    /// The term of the coordinator that an order comes from.
    #[must_use]
    pub fn term(self) -> u64 {
        self.term
    }

    /// The report under this stamp.
    #[must_use]
    pub fn seal(self, body: Report) -> WorkerMessage {
        let Self { rank, incarnation, epoch, term, stream: _ } = self;
        WorkerMessage { rank, incarnation, epoch, term, body: Some(body) }
    }
}
