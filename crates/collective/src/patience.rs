//! How long a rank waits for the others to come, and how another thread ends that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Aborter, Error, Operation, Result};

/// How often a waiting rank looks whether it was aborted.
const LOOK: Duration = Duration::from_millis(10);

/// What the transport may take longer than it was told.
const SLACK: Duration = Duration::from_secs(2);

/// A bound on the forming of groups and on what it needs, which any thread may end early.
///
/// ```
/// use std::time::Duration;
/// use collective::Patience;
///
/// let patience = Patience::new(Duration::from_secs(120));
/// patience.aborter().abort();
/// assert!(patience.is_aborted());
/// ```
#[derive(Clone, Debug)]
pub struct Patience {
    timeout: Duration,
    aborted: Arc<AtomicBool>,
}

impl From<Duration> for Patience {
    fn from(timeout: Duration) -> Self {
        Self::new(timeout)
    }
}

impl Patience {
    /// At most `timeout` for each thing that is waited for.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, aborted: Arc::default() }
    }

    /// Ends whatever waits with this patience, and whatever will: with `Error::Closed`, within 100 ms.
    #[must_use]
    pub fn aborter(&self) -> Aborter {
        let aborted = Arc::clone(&self.aborted);
        Aborter::new(move || aborted.store(true, Ordering::Release))
    }

    /// Whether it was ended.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Where the shim looks whether it was aborted.
    pub(crate) fn flag(&self) -> *const bool {
        self.aborted.as_ptr().cast_const()
    }

    /// Does `work`, which may block on a silent peer, on a thread of its own. Where it was aborted, the thread is left
    /// behind: it ends with the transport's own timeout, and what it made then goes away.
    ///
    /// # Errors
    /// What `work` says, `Closed` after an abort, `Timeout` where `work` takes much longer than it was told.
    pub(crate) fn apart<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let start = Instant::now();
        let own = self.clone();
        let (done, result) = sync_channel(1);
        thread::Builder::new()
            .name("rendezvous".into())
            // Nobody listens any more after an abort.
            .spawn(move || drop(done.send(work(&own))))
            .map_err(|e| Error::Internal { detail: format!("cannot start a thread: {e}") })?;
        loop {
            if self.is_aborted() {
                return Err(Error::Closed);
            }
            match result.recv_timeout(LOOK) {
                Ok(_) if self.is_aborted() => return Err(Error::Closed),
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if start.elapsed() > 2 * self.timeout + SLACK => {
                    return Err(Error::Timeout { operation, waited: start.elapsed() });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal { detail: format!("{operation}: its thread ended") });
                }
            }
        }
    }
}
