//! Ranks in processes, on CPU, over TCP.

use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use crate::native::{NativeGroup, Scatter};
use crate::shim::{GroupHandle, Typed as _};
use crate::{
    Aborter, Error, Group, LocalGroup, Nodes, Operation, Patience, ReduceOp, Result, Sent, Store, Work,
};

/// Where a rank's connections bind: nowhere else on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address of this host, or a name that resolves to one.
    Host(String),
    /// A network interface, such as `eth0`.
    Interface(String),
}

/// A group over libtorch's Gloo. A world of one needs no sockets.
///
/// A killed peer is seen at once, by all ranks that wait; a silent one when a wait's deadline passes. It stays
/// on the thread that formed it.
pub struct GlooGroup(Ranks);

enum Ranks {
    One(LocalGroup),
    Many(NativeGroup),
}

/// A group that no operation has used yet.
struct Unused(GroupHandle);

// SAFETY: c10d binds a group to no thread; what keeps one on its thread are the tensors of its queue, and before the
// first operation there are none: the barrier that ends the forming has none and is over.
unsafe impl Send for Unused {}

impl GlooGroup {
    /// Meets the other ranks of `epoch` on the store and connects to each, as long as `patience` lasts.
    ///
    /// An epoch's number serves one attempt: after a failed forming, take the next.
    ///
    /// # Errors
    /// `Timeout` where a rank does not come, `PeerLost` where the store or a peer goes away meanwhile, `Closed` where
    /// the patience was aborted, `Mismatch` where `rank` is not below `world`, `Unsupported` or `Internal` where `bind` is no address or
    /// interface of this host.
    pub fn form(
        store: &Store,
        epoch: u64,
        rank: usize,
        world: usize,
        bind: &Bind,
        patience: impl Into<Patience>,
    ) -> Result<Self> {
        Self::form_at(store, &format!("epoch/{epoch}"), rank, world, bind, &patience.into())
    }

    /// [`GlooGroup::form`] with groups within and across nodes, on the same store; `nodes` names every rank's node.
    ///
    /// # Errors
    /// As [`GlooGroup::form`].
    pub fn form_over_nodes(
        store: &Store,
        epoch: u64,
        rank: usize,
        nodes: &[u32],
        bind: &Bind,
        patience: impl Into<Patience>,
    ) -> Result<Nodes<Self>> {
        let patience = patience.into();
        Nodes::form(rank, nodes, |part, rank, world| {
            Self::form_at(store, &format!("epoch/{epoch}{part}"), rank, world, bind, &patience)
        })
    }

    fn form_at(
        store: &Store,
        prefix: &str,
        rank: usize,
        world: usize,
        bind: &Bind,
        patience: &Patience,
    ) -> Result<Self> {
        let ranks = place(rank, world)?;
        if world == 1 {
            return Ok(Self(Ranks::One(LocalGroup::alone())));
        }
        let (store, prefix, bind) = (store.handle(), prefix.to_owned(), bind.clone());
        let Unused(group) = patience.apart(Operation::Form, move |patience| {
            let start = Instant::now();
            GroupHandle::form_gloo(&store, &prefix, ranks, &bind, patience)
                .typed(|| Error::Timeout { operation: Operation::Form, waited: start.elapsed() })
                .map(Unused)
        })?;
        Ok(Self(Ranks::Many(NativeGroup::new(group, rank, world, Device::Cpu, Scatter::AllToAll))))
    }

    fn group(&self) -> &dyn Group {
        match &self.0 {
            Ranks::One(group) => group,
            Ranks::Many(group) => group,
        }
    }
}

/// Rank and world as c10d counts them.
///
/// # Errors
/// `Mismatch` where the rank is not below the world, or the world is too large to be one.
pub(crate) fn place(rank: usize, world: usize) -> Result<(i32, i32)> {
    match (i32::try_from(rank), i32::try_from(world)) {
        (Ok(small_rank), Ok(small_world)) if rank < world => Ok((small_rank, small_world)),
        _ => Err(Error::Mismatch {
            what: format!("{}: rank", Operation::Form),
            expected: format!("a rank below the world size {world}"),
            got: rank.to_string(),
        }),
    }
}

impl Group for GlooGroup {
    fn rank(&self) -> usize {
        self.group().rank()
    }

    fn world_size(&self) -> usize {
        self.group().world_size()
    }

    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        self.group().all_reduce(tensor, op)
    }

    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work> {
        self.group().all_gather_base(output, input)
    }

    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work> {
        self.group().reduce_scatter_base(output, input, op)
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        self.group().broadcast(tensor, root)
    }

    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work> {
        self.group().shift(output, input, by)
    }

    fn barrier(&self) -> Result<Work> {
        self.group().barrier()
    }

    fn waited(&self) -> Duration {
        self.group().waited()
    }

    fn sent(&self) -> Sent {
        self.group().sent()
    }

    fn wire_bytes(&self) -> Option<u64> {
        self.group().wire_bytes()
    }

    fn aborter(&self) -> Aborter {
        self.group().aborter()
    }

    fn shutdown(&self) {
        self.group().shutdown();
    }
}
