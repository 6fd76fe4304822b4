//! What the published code would have answered with NaN, at random, or silently.

use std::ops::AddAssign;

use serde::Serialize;

/// How often a special case decided a value; all zero on a well-behaved batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Responses with fewer numbers than aspects, padded with their first number.
    pub padded: u64,
    /// Responses without any number, scored 3.0 (for VisualQuality-R1: without one in the answer).
    pub numberless: u64,
    /// Responses whose mean does not fit an f32.
    pub overflowed: u64,
    /// Comparisons with d = 0 and both predictions exact, where W takes q = 1.
    pub degenerate_pairs: u64,
    /// Samples that were compared with no other: W = Y = 0, VisualQuality-R1's reward 0.
    pub without_pair: u64,
    /// Samples that were compared with one other alone: Y = 0.
    pub without_triplet: u64,
    /// Samples with fewer than three responses: T = 0.
    pub without_balance: u64,
    /// Samples with one response, whose variance counts as 0 (VisualQuality-R1 only).
    pub without_variance: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.padded += other.padded;
        self.numberless += other.numberless;
        self.overflowed += other.overflowed;
        self.degenerate_pairs += other.degenerate_pairs;
        self.without_pair += other.without_pair;
        self.without_triplet += other.without_triplet;
        self.without_balance += other.without_balance;
        self.without_variance += other.without_variance;
    }
}
