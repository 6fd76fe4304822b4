//! A group in which a fault strikes as soon as gradients begin to be summed.

use std::time::Duration;

use collective::{Aborter, Group, Parts, ReduceOp, Result, Sent, Work};
use settings::Phase;
use tch::{Kind, Tensor};

use super::Faults;

/// The group itself, and what strikes in it.
pub struct Striking<'a> {
    group: &'a dyn Group,
    /// Within nodes and across, where the group knows of any: gradients may be summed there alone.
    parts: Option<Box<[Self; 2]>>,
    faults: Faults,
    step: u64,
}

impl<'a> Striking<'a> {
    /// `group`, in which the fault of `step`'s all-reduce strikes.
    #[must_use]
    pub fn new(group: &'a dyn Group, faults: Faults, step: u64) -> Self {
        let part = |group| Self { group, parts: None, faults: faults.clone(), step };
        let parts = group.parts().map(|Parts { within, across }| Box::new([within, across].map(part)));
        Self { group, parts, faults, step }
    }

    /// The peers' operations have begun by what this rank sends: now.
    fn begun(&self, tensor: &Tensor) {
        if tensor.kind() == Kind::Float {
            self.faults.strike(self.step, Phase::AllReduce);
        }
    }
}

impl Group for Striking<'_> {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        let work = self.group.all_reduce(tensor, op)?;
        self.begun(tensor);
        Ok(work)
    }

    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work> {
        self.group.all_gather_base(output, input)
    }

    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work> {
        let work = self.group.reduce_scatter_base(output, input, op)?;
        self.begun(input);
        Ok(work)
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        self.group.broadcast(tensor, root)
    }

    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work> {
        self.group.shift(output, input, by)
    }

    fn barrier(&self) -> Result<Work> {
        self.group.barrier()
    }

    fn sent(&self) -> Sent {
        self.group.sent()
    }

    fn waited(&self) -> Duration {
        self.group.waited()
    }

    fn wire_bytes(&self) -> Option<u64> {
        self.group.wire_bytes()
    }

    fn parts(&self) -> Option<Parts<'_>> {
        self.parts.as_deref().map(|[within, across]| Parts { within, across })
    }

    fn aborter(&self) -> Aborter {
        self.group.aborter()
    }

    fn shutdown(&self) {
        self.group.shutdown();
    }
}
