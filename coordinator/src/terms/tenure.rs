//! A term while it is held: renewed by a thread of its own, whatever the coordinator's other threads are busy with.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use super::{Clock, Fence, Term, TermError};

/// Between two looks whether it is time to renew.
const LOOK: Duration = Duration::from_millis(500);

/// A term that is renewed until this is dropped, and then given up: who comes next need not wait.
#[derive(Debug)]
pub struct Tenure {
    fence: Fence,
    /// Dropped, it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tenure {
    /// Begins to renew `term` by `clock`; that it is lost is told once, by `on_loss`, and it is renewed no more.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn begin(
        term: Term,
        clock: Clock,
        on_loss: impl FnOnce(TermError) + Send + 'static,
    ) -> io::Result<Self> {
        Self::begin_looking(LOOK, term, clock, on_loss)
    }

    fn begin_looking(
        every: Duration,
        term: Term,
        clock: Clock,
        on_loss: impl FnOnce(TermError) + Send + 'static,
    ) -> io::Result<Self> {
        let fence = Fence { standing: term.standing.clone(), clock: clock.clone() };
        let (stop, stopped) = channel();
        let keep = move || keep(term, &clock, every, &stopped, on_loss);
        let thread = thread::Builder::new().name("term".into()).spawn(keep)?;
        Ok(Self { fence, stop: Some(stop), thread: Some(thread) })
    }

    /// Says whether it still stands.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It panics nowhere; if it did, the lease runs out by itself.
            let _ = thread.join();
        }
    }
}

/// The thread: renews until it is stopped, or the term is lost.
fn keep(
    mut term: Term,
    clock: &Clock,
    every: Duration,
    stopped: &Receiver<()>,
    on_loss: impl FnOnce(TermError),
) {
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        match term.renew(clock.now()) {
            Ok(()) => {}
            Err(lost) if lost.is_loss() => {
                on_loss(lost);
                // Only what others wait for is left to do.
                let _ = stopped.recv();
                break;
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
    term.release();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::terms::Claimant;

    /// How long a thread may take to do what it is there for.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A first term, the clock's hands, and what is told of a loss.
    fn begun(folder: &Path) -> (Tenure, Arc<AtomicU64>, Receiver<TermError>) {
        let mut claimant = Claimant::new(folder, "process 1 on elsewhere").expect("a folder");
        let term = claimant.claim(Duration::ZERO).expect("nobody lives").expect("nobody is waited for");
        let hands = Arc::new(AtomicU64::new(0));
        let (clock, read) = (Arc::clone(&hands), |hands: &AtomicU64| hands.load(Ordering::SeqCst));
        let clock = Clock::of(move || Duration::from_secs(read(&clock)));
        let (tell, told) = channel();
        let on_loss = move |lost| tell.send(lost).expect("somebody listens");
        let every = Duration::from_millis(1);
        (Tenure::begin_looking(every, term, clock, on_loss).expect("a thread"), hands, told)
    }

    fn lease(folder: &Path) -> String {
        fs::read_to_string(folder.join("terms/1")).expect("a lease")
    }

    /// Looks until the lease says it.
    fn wait_for_lease(folder: &Path, said: &str) {
        let begin = Instant::now();
        while lease(folder) != said {
            assert!(begin.elapsed() < PATIENCE, "{}, not {said}", lease(folder));
            thread::yield_now();
        }
    }

    #[test]
    fn a_term_is_renewed_by_itself_and_given_up_at_its_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (tenure, hands, _told) = begun(folder.path());
        for (renewals, now) in [(2, 3), (3, 6), (4, 9), (5, 12)] {
            hands.store(now, Ordering::SeqCst);
            wait_for_lease(folder.path(), &format!("process 1 on elsewhere\n{renewals}\n"));
        }
        tenure.fence().check().expect("it stands");
        drop(tenure);
        assert_eq!(lease(folder.path()), "nobody\n6\n");
    }

    #[test]
    fn a_process_that_was_frozen_finds_its_lease_run_out_and_does_not_renew_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (tenure, hands, told) = begun(folder.path());
        hands.store(60, Ordering::SeqCst);
        // Before the thread gets to it too.
        assert!(matches!(tenure.fence().check(), Err(TermError::Expired { .. })));
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(TermError::Expired { .. })));
        assert_eq!(lease(folder.path()), "process 1 on elsewhere\n1\n");
        assert!(tenure.fence().check_time().is_err());
    }

    #[test]
    fn a_later_term_is_seen_by_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (tenure, hands, told) = begun(folder.path());
        fs::write(folder.path().join("terms/2"), "process 7 on here\n1\n").expect("claimed");
        hands.store(3, Ordering::SeqCst);
        let told = told.recv_timeout(PATIENCE).expect("told").to_string();
        assert!(told.contains("(process 7 on here): term 2 follows our 1"), "{told}");
        assert!(tenure.fence().check_time().is_ok() && tenure.fence().check().is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_is_tried_again_until_the_lease_has_run_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (tenure, hands, told) = begun(folder.path());
        let (terms, away) = (folder.path().join("terms"), folder.path().join("away"));
        fs::rename(&terms, &away).expect("moved");
        hands.store(3, Ordering::SeqCst);
        assert!(matches!(tenure.fence().check(), Err(TermError::Io { .. })));
        fs::rename(&away, &terms).expect("moved back");
        wait_for_lease(folder.path(), "process 1 on elsewhere\n2\n");
        fs::rename(&terms, &away).expect("moved");
        hands.store(10, Ordering::SeqCst);
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(TermError::Expired { .. })));
    }
}
