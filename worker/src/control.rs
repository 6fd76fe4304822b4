//! What the session and the tensor thread share: which orders still count, what is held, and how to end a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use collective::Aborter;
use proto::v1::Held;
use tokio::sync::watch;

/// One of these a process. Orders are numbered as they come; a lower number than a mark has passed.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The next order's number.
    next: u64,
    /// Orders below it are of an aborted epoch.
    aborted: u64,
    /// Orders below it came on a stream that is gone.
    forgotten: u64,
    /// Whether an order is carried out now.
    running: watch::Sender<bool>,
    /// Ends the waits of the current group, or of the one that forms.
    aborter: Option<Aborter>,
    held: Option<Held>,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of an order that has come.
    pub fn number(&self) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        state.next - 1
    }

    /// Ends at once what waits for peers, and whatever of the orders so far would.
    pub fn abort(&self) {
        self.end(false);
    }

    /// The stream is gone: none of the orders so far is to be carried out any more, and what waits for peers ends.
    pub fn forget(&self) {
        self.end(true);
    }

    fn end(&self, forget: bool) {
        let mut state = self.lock();
        state.aborted = state.next;
        if forget {
            state.forgotten = state.next;
        }
        let aborter = state.aborter.clone();
        drop(state);
        if let Some(aborter) = aborter {
            aborter.abort();
        }
    }

    /// Whether the order belongs to an aborted epoch.
    #[must_use]
    pub fn is_aborted(&self, number: u64) -> bool {
        number < self.lock().aborted
    }

    /// Whether the order came on a stream that is gone.
    #[must_use]
    pub fn is_forgotten(&self, number: u64) -> bool {
        number < self.lock().forgotten
    }

    /// From now on an abort ends the waits of `aborter`'s group, on behalf of the order `number`. False: that order is
    /// aborted already, and its group must not be used.
    #[must_use]
    pub fn arm(&self, number: u64, aborter: Aborter) -> bool {
        let mut state = self.lock();
        if number < state.aborted {
            return false;
        }
        state.aborter = Some(aborter);
        true
    }

    /// The group is gone.
    pub fn disarm(&self) {
        self.lock().aborter = None;
    }

    /// What the worker holds of the run.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.lock().held
    }

    /// What it holds from now on.
    pub fn hold(&self, held: Option<Held>) {
        self.lock().held = held;
    }

    /// Returns when no order is being carried out.
    pub async fn idle(&self) {
        let mut running = self.lock().running.subscribe();
        // An error would be a sender that is gone: this holds it.
        let _ = running.wait_for(|running| !running).await;
    }

    /// An order begins, or has ended.
    pub fn set_running(&self, running: bool) {
        self.lock().running.send_replace(running);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use collective::Patience;

    use super::Control;

    fn patience() -> Patience {
        Patience::new(Duration::from_secs(1))
    }

    #[test]
    fn an_abort_reaches_the_group_in_use_and_the_orders_before_it_alone() {
        let control = Control::default();
        let (first, group) = (control.number(), patience());
        assert!(control.arm(first, group.aborter()));
        let second = control.number();
        control.abort();
        let third = control.number();
        assert!(group.is_aborted());
        assert_eq!([first, second, third].map(|n| control.is_aborted(n)), [true, true, false]);
        assert!(![first, second, third].iter().any(|n| control.is_forgotten(*n)));
        // Whoever forms on behalf of an aborted order learns it; the next one's group is untouched.
        assert!(!control.arm(second, patience().aborter()));
        let next = patience();
        assert!(control.arm(third, next.aborter()));
        assert!(!next.is_aborted());
    }

    #[test]
    fn a_lost_stream_takes_its_orders_with_it() {
        let control = Control::default();
        let old = control.number();
        control.forget();
        let new = control.number();
        assert_eq!([old, new].map(|n| control.is_forgotten(n)), [true, false]);
        assert_eq!([old, new].map(|n| control.is_aborted(n)), [true, false]);
    }
}
