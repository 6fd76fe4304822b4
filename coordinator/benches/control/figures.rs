//! What is printed of a crowd, beside what is asked of it at 1,000 workers.

use std::fmt;
use std::time::Duration;

/// Above the rows.
pub(crate) const HEAD: &str = "\
asked at 1,000 workers: registered within 5 s, next epoch within 2 s of a death, p99 of commits 250 ms, 300 MB
workers  registered     formed  last StepReady to last Commit  death to first order  death to next epoch   a heartbeat     memory
                                    median       p99              median       max     median       max
";

/// Of one size.
pub(crate) struct Figures {
    pub(crate) workers: u32,
    /// From the first connection to the last Welcome.
    pub(crate) registered: Duration,
    /// From the first connection until all had formed the first epoch.
    pub(crate) formed: Duration,
    pub(crate) commit: Spread,
    pub(crate) known: Spread,
    pub(crate) next: Spread,
    /// Processor time.
    pub(crate) heartbeat: Duration,
    /// Bytes.
    pub(crate) memory: u64,
}

/// Times, shortest first.
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The time that this share of all is not longer than.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let place = (share * self.0.len() as f64).ceil() as usize;
        self.0[place.clamp(1, self.0.len()) - 1]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        write!(
            f,
            "{:7} {:>11} {:>10} {:>12} {:>9} {:>19} {:>9} {:>10} {:>9} {:>10.1} us {:>7.1} MB",
            self.workers,
            ms(self.registered),
            ms(self.formed),
            ms(self.commit.at(0.5)),
            ms(self.commit.at(0.99)),
            ms(self.known.at(0.5)),
            ms(self.known.at(1.0)),
            ms(self.next.at(0.5)),
            ms(self.next.at(1.0)),
            self.heartbeat.as_secs_f64() * 1e6,
            self.memory as f64 / 1e6,
        )
    }
}
