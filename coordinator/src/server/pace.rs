//! How fast one stream is listened to: so many reports at once, and so many a second after that. Whoever says more is
//! read later, and waits.

use std::time::Duration;

use tokio::time::Instant;

/// Reports that may come at once.
const BURST: u32 = 256;
/// Time that each further one takes.
const INTERVAL: Duration = Duration::from_millis(1);

/// A stream's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// When everything that was said so far would have been said at the steady pace.
    said: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { said: now }
    }

    /// Takes a report in; when the next may be read, where that is not now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        self.said = self.said.max(now) + INTERVAL;
        let next = self.said.checked_sub(INTERVAL * BURST)?;
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_passes_and_a_flood_is_slowed_to_the_steady_pace() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!((0..BURST).all(|_| pace.take(now).is_none()));
        assert_eq!(pace.take(now), Some(now + INTERVAL));
        assert_eq!(pace.take(now), Some(now + INTERVAL * 2));
        assert_eq!(pace.take(now + INTERVAL * (BURST + 2)), None);
    }
}
