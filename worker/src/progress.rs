//! What the tensor thread is doing, for the heartbeats that another thread sends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Two clocks' worth of facts: the phase, and a count that grows while work advances.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    done: Arc<AtomicU64>,
    phase: Arc<Mutex<&'static str>>,
}

impl Progress {
    /// Work advanced: a picture decoded, a token drawn for all rows, a micro-batch done.
    pub fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// A new phase begins, which is an advance too.
    pub fn enter(&self, phase: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.advance();
    }

    /// The phase, and how much has been done since the start.
    #[must_use]
    pub fn read(&self) -> (&'static str, u64) {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        (phase, self.done.load(Ordering::Relaxed))
    }
}
