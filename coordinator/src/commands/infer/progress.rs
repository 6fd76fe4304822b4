//! How far the work is, for people: a bar on a terminal, a line now and then elsewhere. On stderr.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::tell;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a person sees.
pub(super) struct Progress {
    of: usize,
    bar: Option<ProgressBar>,
    /// What the last plain line said, and when.
    told: (usize, Instant),
}

impl Progress {
    pub(super) fn new(of: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos} of {len} judged, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(of as u64).with_style(style));
        Self { of, bar, told: (0, Instant::now()) }
    }

    pub(super) fn show(&mut self, items: usize) {
        let (told, at) = self.told;
        match &self.bar {
            Some(bar) => bar.set_position(items as u64),
            None if items > told && at.elapsed() >= LINE_EVERY => {
                self.told = (items, Instant::now());
                tell::err(format_args!("judged {items} of {}", self.of));
            }
            None => {}
        }
    }

    /// A line of its own.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell::err(text)),
            None => tell::err(text),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
