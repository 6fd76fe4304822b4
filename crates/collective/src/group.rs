//! The operations that every transport offers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tch::Tensor;

use crate::{Parts, Result, Sent, Work};

/// How values of the ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// The ranks of one epoch, seen from one of them.
///
/// All ranks call the same operations in the same order with tensors of the same type and size. Tensors are
/// dense, contiguous, f32, bf16 or i64, on the group's device; their shape does not matter. Each operation
/// starts at once and returns a [`Work`]; until its wait has succeeded, the tensors must be neither read nor
/// written. Results are bit for bit the same on all ranks. Empty tensors are allowed.
///
/// Operations give `Error::Mismatch` or `Error::Unsupported` for unfit tensors before anything is sent,
/// `Error::Closed` after a shutdown, and `Error::PeerLost` after an earlier operation found a peer lost.
pub trait Group {
    /// This rank, in `0..world_size`.
    fn rank(&self) -> usize;

    /// Number of ranks, at least 1.
    fn world_size(&self) -> usize;

    /// Replaces `tensor` on every rank by the reduction over all ranks.
    ///
    /// Over Gloo, bf16 is rounded after every addition: sum gradients in f32.
    ///
    /// # Errors
    /// See [`Group`].
    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work>;

    /// Fills `output` (`world_size · n` values) with every rank's `input` (`n` values), in rank order.
    ///
    /// # Errors
    /// See [`Group`].
    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work>;

    /// Reduces the ranks' `input` (`world_size · n` values) and leaves this rank's part in `output` (`n`
    /// values): those at `rank · n`.
    ///
    /// Over Gloo every rank adds the parts it received in rank order, bf16 with f32 accumulation, and `output`
    /// is written by the wait.
    ///
    /// # Errors
    /// See [`Group`].
    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work>;

    /// Overwrites `tensor` on every rank with that of rank `root`.
    ///
    /// # Errors
    /// See [`Group`]; `Error::Mismatch` also where `root` is no rank.
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work>;

    /// Sends `input` to the rank `by` places on (after the last comes the first), and fills `output` with what came
    /// from the rank `by` places back; both have `n` values.
    ///
    /// # Errors
    /// See [`Group`]; `Error::Mismatch` also where `by` is not below `world_size`.
    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work>;

    /// Ends on no rank before all have called it.
    ///
    /// # Errors
    /// See [`Group`].
    fn barrier(&self) -> Result<Work>;

    /// What this rank has sent so far.
    fn sent(&self) -> Sent;

    /// How long this rank has waited for operations so far; in-process ranks do not measure it.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// Bytes that the kernel has sent to the peers, with what the transport adds of its own; none where it does not
    /// say.
    fn wire_bytes(&self) -> Option<u64> {
        None
    }

    /// The groups within and across nodes, where this one was formed over nodes.
    fn parts(&self) -> Option<Parts<'_>> {
        None
    }

    /// A handle with which any thread can abort this group's operations.
    fn aborter(&self) -> Aborter;

    /// Ends the group here: running operations fail at once, and the buffers of timed-out ones are freed.
    /// Peers that still wait for this rank find it lost. Dropping the group does the same.
    fn shutdown(&self);
}

/// Aborts a group's operations from any thread: running waits end at once with `Error::Closed`, and so does
/// whatever is started later. The group itself still has to be shut down or dropped by its owner.
#[derive(Clone)]
pub struct Aborter(Arc<dyn Fn() + Send + Sync>);

impl Aborter {
    pub(crate) fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(abort))
    }

    /// Aborts; more than once does no harm.
    pub fn abort(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Aborter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aborter")
    }
}
