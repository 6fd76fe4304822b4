//! Where strangers wait: room for so many, and whoever has waited longest makes room for the next.
//!
//! So those who only occupy places (half-open connections and streams) push each other out, and a worker, which says
//! who it is at once, gets through.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Places for strangers.
#[derive(Clone, Debug)]
pub(super) struct Anteroom {
    places: usize,
    patience: Duration,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
}

impl Anteroom {
    pub(super) fn new(places: usize, patience: Duration) -> Self {
        Self { places, patience, waiting: Arc::default() }
    }

    /// Takes a stranger in. The future ends when it must go: its time is over, or others need its place. Dropping the
    /// future gives the place up.
    pub(super) fn enter(&self) -> impl Future<Output = ()> + Send + use<> {
        let (place, taken) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(place);
        if waiting.len() > self.places {
            waiting.retain(|place| !place.is_closed());
        }
        while waiting.len() > self.places {
            waiting.pop_front();
        }
        let patience = self.patience;
        async move {
            // A place that is taken is a sender that was dropped; elapsed is a stranger out of time.
            let _ = tokio::time::timeout(patience, taken).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_has_waited_longest_goes_first_and_who_left_by_itself_counts_no_more() {
        let room = Anteroom::new(2, Duration::from_secs(600));
        let (first, second) = (room.enter(), room.enter());
        drop(second);
        let third = room.enter();
        let fourth = room.enter();
        first.await;
        assert_eq!(room.waiting.lock().expect("whole").len(), 2);
        drop(third);
        let fifth = room.enter();
        assert_eq!(room.waiting.lock().expect("whole").iter().filter(|place| !place.is_closed()).count(), 2);
        drop((fourth, fifth));
    }

    #[tokio::test]
    async fn a_stranger_has_so_much_time() {
        Anteroom::new(2, Duration::from_millis(1)).enter().await;
    }
}
