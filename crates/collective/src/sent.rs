//! What a rank gives to its transport.

use std::cell::Cell;
use std::ops::{Add, Sub};
use std::time::Duration;

use tch::Tensor;

use crate::Operation;

/// Bytes of payload that a rank has sent since its group was formed, by kind of operation.
///
/// Of `N` ranks, each sends `2 (N − 1) / N` of an all-reduced tensor, `N − 1` times its own part of an all-gather,
/// and `(N − 1) / N` of a reduce-scatter's input: what a ring sends, and no algorithm sends less. The root counts a
/// broadcast, `N − 1` times, and every rank its part of a shift once. Barriers carry nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// By all-reduces.
    pub all_reduce: u64,
    /// By all-gathers.
    pub all_gather: u64,
    /// By reduce-scatters.
    pub reduce_scatter: u64,
    /// By broadcasts.
    pub broadcast: u64,
    /// By shifts.
    pub shift: u64,
}

impl Sent {
    /// All kinds together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.all_reduce + self.all_gather + self.reduce_scatter + self.broadcast + self.shift
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            all_reduce: with(self.all_reduce, other.all_reduce),
            all_gather: with(self.all_gather, other.all_gather),
            reduce_scatter: with(self.reduce_scatter, other.reduce_scatter),
            broadcast: with(self.broadcast, other.broadcast),
            shift: with(self.shift, other.shift),
        }
    }
}

impl Add for Sent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

impl Sub for Sent {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }
}

/// Counts what one rank of `world` sends, and how long it waits for it.
#[derive(Debug)]
pub(crate) struct Meter {
    world: u64,
    sent: Cell<Sent>,
    waited: Cell<Duration>,
}

impl Meter {
    pub(crate) fn new(world: usize) -> Self {
        Self { world: world as u64, sent: Cell::default(), waited: Cell::default() }
    }

    pub(crate) fn sent(&self) -> Sent {
        self.sent.get()
    }

    pub(crate) fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// The rank did nothing else for so long.
    pub(crate) fn wait(&self, time: Duration) {
        self.waited.set(self.waited.get() + time);
    }

    /// An operation began on `tensor`: what is reduced or broadcast, or this rank's part.
    pub(crate) fn note(&self, operation: Operation, tensor: &Tensor) {
        let bytes = (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let (mut sent, others) = (self.sent.get(), self.world.saturating_sub(1));
        match operation {
            Operation::AllReduce => sent.all_reduce += 2 * bytes * others / self.world.max(1),
            Operation::AllGather => sent.all_gather += bytes * others,
            Operation::ReduceScatter => sent.reduce_scatter += bytes * others,
            Operation::Broadcast => sent.broadcast += bytes * others,
            Operation::Shift => sent.shift += bytes * u64::from(others > 0),
            Operation::Connect | Operation::Form | Operation::Barrier => {}
        }
        self.sent.set(sent);
    }
}
