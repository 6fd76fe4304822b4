//! Says who was turned away, once a minute a host, so that nobody can fill the log.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about one host.
const EVERY: Duration = Duration::from_secs(60);
/// Hosts that are remembered.
const MOST: usize = 1024;

/// Who was told about, and when.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Refusals {
    /// Logs that `peer` was turned away, unless its host was told about just now.
    pub(super) fn tell(&self, peer: SocketAddr, why: &str) {
        if self.is_news(peer.ip(), Instant::now()) {
            tracing::warn!("refused {peer}: {why} (told once a minute a host)");
        }
    }

    fn is_news(&self, host: IpAddr, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < EVERY);
        let news = !told.contains_key(&host) && told.len() < MOST;
        if news {
            told.insert(host, now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_about_once_a_minute_and_so_many_at_most() {
        let refusals = Refusals::default();
        let (host, now) = (IpAddr::from([10, 0, 0, 1]), Instant::now());
        assert!(refusals.is_news(host, now));
        assert!(!refusals.is_news(host, now + EVERY / 2));
        assert!(refusals.is_news(host, now + EVERY));
        let many = (0..2000_u32).filter(|n| refusals.is_news(IpAddr::from(n.to_be_bytes()), now + EVERY));
        assert_eq!(many.count(), MOST - 1);
    }
}
