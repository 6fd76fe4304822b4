//! The flat buffers that a rank owns, in an order and of sizes that all ranks share.

use tch::Tensor;

/// Everything that goes with a rank.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    /// A block each.
    pub(crate) trained: Vec<Slice>,
    /// Frozen values that this rank alone owns.
    pub(crate) frozen: Vec<Tensor>,
    /// Frozen values that every rank has.
    pub(crate) shared: Vec<Tensor>,
}

/// A block's part, f32, all of one length.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Weights.
    pub(crate) master: Tensor,
    /// First moment.
    pub(crate) exp_avg: Tensor,
    /// Second moment.
    pub(crate) exp_avg_sq: Tensor,
    /// The reduced gradient.
    pub(crate) grad: Tensor,
}

impl Slice {
    /// What stays from step to step.
    pub(crate) fn kept(&self) -> [&Tensor; 3] {
        [&self.master, &self.exp_avg, &self.exp_avg_sq]
    }
}
