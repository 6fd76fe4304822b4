//! Ranks in processes, each with its own GPU.

use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use crate::gloo::place;
use crate::native::{NativeGroup, Scatter};
use crate::shim::{GroupHandle, Typed as _};
use crate::{Aborter, Error, Group, Nodes, Operation, Patience, ReduceOp, Result, Sent, Store, Work};

/// A group over libtorch's NCCL. Waits block the thread until the GPU is through with the operation.
///
/// Set `TORCH_NCCL_ASYNC_ERROR_HANDLING=0` in the process's environment: libtorch's default ends the process
/// when an operation fails, and then no epoch follows.
pub struct NcclGroup(NativeGroup);

impl NcclGroup {
    /// Meets the other ranks of `epoch` on the store; every rank brings the GPU of number `device`.
    ///
    /// # Errors
    /// As [`crate::GlooGroup::form`]; `Unsupported` or `Internal` where there is no GPU.
    pub fn form(
        store: &Store,
        epoch: u64,
        rank: usize,
        world: usize,
        device: usize,
        patience: impl Into<Patience>,
    ) -> Result<Self> {
        Self::form_at(store, &format!("epoch/{epoch}/nccl"), rank, world, device, &patience.into())
    }

    /// [`NcclGroup::form`] with groups within and across nodes; `nodes` names every rank's node.
    ///
    /// # Errors
    /// As [`NcclGroup::form`].
    pub fn form_over_nodes(
        store: &Store,
        epoch: u64,
        rank: usize,
        nodes: &[u32],
        device: usize,
        patience: impl Into<Patience>,
    ) -> Result<Nodes<Self>> {
        let patience = patience.into();
        Nodes::form(rank, nodes, |part, rank, world| {
            Self::form_at(store, &format!("epoch/{epoch}/nccl{part}"), rank, world, device, &patience)
        })
    }

    fn form_at(
        store: &Store,
        prefix: &str,
        rank: usize,
        world: usize,
        device: usize,
        patience: &Patience,
    ) -> Result<Self> {
        let ranks = place(rank, world)?;
        let number = i32::try_from(device)
            .map_err(|_| Error::Unsupported { what: format!("there is no GPU of number {device}") })?;
        let start = Instant::now();
        let group = GroupHandle::form_nccl(&store.handle(), prefix, ranks, number, patience);
        if patience.is_aborted() {
            return Err(Error::Closed);
        }
        let group = group.typed(|| Error::Timeout { operation: Operation::Form, waited: start.elapsed() })?;
        Ok(Self(NativeGroup::new(group, rank, world, Device::Cuda(device), Scatter::Own)))
    }
}

impl Group for NcclGroup {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn world_size(&self) -> usize {
        self.0.world_size()
    }

    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        self.0.all_reduce(tensor, op)
    }

    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work> {
        self.0.all_gather_base(output, input)
    }

    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work> {
        self.0.reduce_scatter_base(output, input, op)
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        self.0.broadcast(tensor, root)
    }

    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work> {
        self.0.shift(output, input, by)
    }

    fn barrier(&self) -> Result<Work> {
        self.0.barrier()
    }

    fn waited(&self) -> Duration {
        self.0.waited()
    }

    fn sent(&self) -> Sent {
        self.0.sent()
    }

    fn aborter(&self) -> Aborter {
        self.0.aborter()
    }

    fn shutdown(&self) {
        self.0.shutdown();
    }
}
