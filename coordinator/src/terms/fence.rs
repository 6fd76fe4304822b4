//! Whether a coordinator still has its term, asked by whatever is about to change the run, from any thread.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{TermError, lease, may_write, newest};

/// The time since the coordinator's start, which never falls and does not jump.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// Of a coordinator that started then.
    #[must_use]
    pub fn since(started: Instant) -> Self {
        Self::of(move || started.elapsed())
    }

    /// Says what `now` says.
    pub fn of(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// A claimed term's number, and when its lease was last renewed.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) number: u64,
    pub(super) terms: PathBuf,
    renewed: Arc<Mutex<Renewed>>,
}

/// The last time that the lease was renewed, and what was said to tries after it.
#[derive(Debug)]
struct Renewed {
    at: Duration,
    refused: Option<String>,
}

impl Standing {
    pub(super) fn new(number: u64, terms: PathBuf, now: Duration) -> Self {
        Self { number, terms, renewed: Arc::new(Mutex::new(Renewed { at: now, refused: None })) }
    }

    /// The term's lease.
    pub(super) fn path(&self) -> PathBuf {
        self.terms.join(self.number.to_string())
    }

    pub(super) fn renewed(&self) -> Duration {
        self.lock().at
    }

    /// The lease was written, and that began at `now`.
    pub(super) fn renew(&self, now: Duration) {
        *self.lock() = Renewed { at: now, refused: None };
    }

    /// It could not be written.
    pub(super) fn refuse(&self, reason: String) {
        self.lock().refused = Some(reason);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Renewed> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self, now: Duration) -> Result<(), TermError> {
        let newest = newest(&self.terms);
        if let Ok(newest) = newest
            && newest > self.number
        {
            let holder = lease::read(&self.terms.join(newest.to_string())).owner;
            return Err(TermError::Superseded { own: self.number, newest, holder });
        }
        // A lease that has run out has, whether the disk answers or not.
        self.check_time(now)?;
        newest.map(drop)
    }

    pub(super) fn check_time(&self, now: Duration) -> Result<(), TermError> {
        let since = now.saturating_sub(self.renewed());
        if may_write(self.number, self.number, since) {
            return Ok(());
        }
        Err(TermError::Expired { path: self.path(), why: self.lock().refused.clone() })
    }
}

/// Says whether a term still stands, with no need of whoever renews it.
#[derive(Clone, Debug)]
pub struct Fence {
    pub(super) standing: Standing,
    pub(super) clock: Clock,
}

impl Fence {
    /// The term's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.standing.number
    }

    /// Whether this coordinator may still change the run; asked directly before each change.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn check(&self) -> Result<(), TermError> {
        self.standing.check(self.clock.now())
    }

    /// Whether the lease has not run out; only where it has, the disk is asked who has taken over.
    ///
    /// # Errors
    /// If it has.
    pub fn check_time(&self) -> Result<(), TermError> {
        self.standing.check_time(self.clock.now()).or_else(|_| self.check())
    }
}
