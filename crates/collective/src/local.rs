//! Ranks in threads of one process: the same semantics without sockets, for tests.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use crate::sent::{Meter, Sent};
use crate::{Aborter, Error, Group, Operation, ReduceOp, Result, Work, check, reduce};

/// One rank of a group whose ranks are threads of this process. Send each rank to its thread.
///
/// The last rank to start an operation carries it out for all. Unlike the other transports, it notices when
/// the ranks' calls differ.
#[derive(Debug)]
pub struct LocalGroup {
    rank: usize,
    hub: Arc<Hub>,
    /// Number of operations that this rank has started.
    started: Cell<u64>,
    meter: Meter,
}

/// What the ranks share.
struct Hub {
    world: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    left: Vec<bool>,
    /// By number; a round leaves when every rank is through with it.
    rounds: BTreeMap<u64, Round>,
}

/// One operation over all ranks.
struct Round {
    call: Call,
    contributions: Vec<Option<Contribution>>,
    outcome: Option<Result<()>>,
    /// Ranks that have waited or given up waiting.
    through: usize,
}

/// What all ranks must agree on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Call {
    operation: Operation,
    op: Option<ReduceOp>,
    /// The root of a broadcast, the places of a shift.
    root: usize,
    kind: Option<Kind>,
    values: usize,
}

/// A rank's tensors, flat; in-place operations have an output alone.
struct Contribution {
    output: Option<Tensor>,
    input: Option<Tensor>,
}

impl Contribution {
    /// What this rank puts in or, of a reduce-scatter, takes out.
    fn part(&self, operation: Operation) -> Option<&Tensor> {
        match operation {
            Operation::AllGather | Operation::Shift => self.input.as_ref(),
            _ => self.output.as_ref(),
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub(world {})", self.world)
    }
}

impl Hub {
    fn new(world: usize) -> Arc<Self> {
        let state = State { left: vec![false; world], rounds: BTreeMap::new() };
        Arc::new(Self { world, state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, rank: usize) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.left[rank], true) {
            return;
        }
        for round in state.rounds.values_mut() {
            round.resolve(Err(lost(rank)));
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn lost(rank: usize) -> Error {
    Error::PeerLost { detail: format!("rank {rank} left the group") }
}

impl Round {
    /// Settles how the operation ends, unless that is settled, and lets go of its tensors.
    fn resolve(&mut self, outcome: Result<()>) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.contributions.clear();
        }
    }
}

impl LocalGroup {
    /// The `world` ranks of a new group, in order.
    #[must_use]
    pub fn world(world: usize) -> Vec<Self> {
        let hub = Hub::new(world);
        (0..world).map(|rank| Self::at(rank, Arc::clone(&hub))).collect()
    }

    /// The one rank of a world of one.
    #[must_use]
    pub fn alone() -> Self {
        Self::at(0, Hub::new(1))
    }

    fn at(rank: usize, hub: Arc<Hub>) -> Self {
        Self { rank, meter: Meter::new(hub.world), hub, started: Cell::new(0) }
    }

    fn start(&self, call: Call, contribution: Contribution) -> Result<Work> {
        let mut state = self.hub.lock();
        if state.left[self.rank] {
            return Err(Error::Closed);
        }
        if let Some(rank) = state.left.iter().position(|&left| left) {
            return Err(lost(rank));
        }
        let number = self.started.get();
        self.started.set(number + 1);
        if let Some(tensor) = contribution.part(call.operation) {
            self.meter.note(call.operation, tensor);
        }
        let operation = call.operation;
        let world = self.hub.world;
        let round = state.rounds.entry(number).or_insert_with(|| Round {
            call,
            contributions: (0..world).map(|_| None).collect(),
            outcome: None,
            through: 0,
        });
        if round.call != call {
            round.resolve(Err(Error::Mismatch {
                what: format!("operation {number} of rank {}", self.rank),
                expected: format!("{:?}, as the other ranks", round.call),
                got: format!("{call:?}"),
            }));
        } else if round.outcome.is_none() {
            round.contributions[self.rank] = Some(contribution);
            if round.contributions.iter().all(Option::is_some) {
                let outcome = carry_out(&call, round.contributions.iter_mut().flatten());
                round.resolve(outcome);
            }
        }
        drop(state);
        self.hub.changed.notify_all();
        Ok(Work::local(Pending { operation, number, rank: self.rank, hub: Arc::clone(&self.hub) }))
    }

    fn in_place(
        &self,
        operation: Operation,
        tensor: &Tensor,
        op: Option<ReduceOp>,
        root: usize,
    ) -> Result<Work> {
        let output = check::flat(operation, tensor, None)?;
        let call = Call { operation, op, root, kind: Some(output.kind()), values: output.numel() };
        self.start(call, Contribution { output: Some(output), input: None })
    }
}

/// Performs the operation on all ranks' tensors.
fn carry_out<'a>(call: &Call, ranks: impl Iterator<Item = &'a mut Contribution>) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let (mut outputs, inputs): (Vec<_>, Vec<_>) =
        ranks.map(|rank| (rank.output.as_mut(), rank.input.as_ref())).unzip();
    let inputs: Vec<&Tensor> = inputs.into_iter().flatten().collect();
    let mut outputs: Vec<&mut Tensor> = outputs.drain(..).flatten().collect();
    if outputs.is_empty() {
        return Ok(());
    }
    match (call.operation, call.op) {
        (Operation::AllReduce, Some(op)) if outputs.len() > 1 => {
            let values: Vec<&Tensor> = outputs.iter().map(|output| &**output).collect();
            reduce::over_ranks(&values, op, values[0])?;
            let reduced = values[0].shallow_clone();
            outputs.iter_mut().try_for_each(|output| output.f_copy_(&reduced))?;
        }
        (Operation::AllGather, _) => {
            let gathered = Tensor::f_cat(&inputs, 0)?;
            outputs.iter_mut().try_for_each(|output| output.f_copy_(&gathered))?;
        }
        (Operation::ReduceScatter, Some(op)) => {
            let n = call.values as i64;
            for (rank, output) in outputs.iter().enumerate() {
                let parts: std::result::Result<Vec<Tensor>, _> =
                    inputs.iter().map(|input| input.f_narrow(0, rank as i64 * n, n)).collect();
                reduce::over_ranks(&parts?, op, output)?;
            }
        }
        (Operation::Shift, _) => {
            let world = inputs.len();
            for (rank, output) in outputs.iter_mut().enumerate() {
                output.f_copy_(inputs[(rank + world - call.root) % world])?;
            }
        }
        (Operation::Broadcast, _) => {
            let source = outputs[call.root].shallow_clone();
            outputs.iter_mut().try_for_each(|output| output.f_copy_(&source))?;
        }
        _ => {}
    }
    Ok(())
}

/// See [`Work`].
#[derive(Debug)]
pub(crate) struct Pending {
    operation: Operation,
    number: u64,
    rank: usize,
    hub: Arc<Hub>,
}

impl Pending {
    pub(crate) fn wait(self, deadline: Duration) -> Result<()> {
        let start = Instant::now();
        let mut state = self.hub.lock();
        loop {
            let outcome = state.rounds.get(&self.number).and_then(|round| round.outcome.clone());
            match outcome {
                Some(Err(Error::PeerLost { .. })) if state.left[self.rank] => return Err(Error::Closed),
                Some(outcome) => return outcome,
                None if state.left[self.rank] => return Err(Error::Closed),
                None => {}
            }
            let waited = start.elapsed();
            let Some(rest) = deadline.checked_sub(waited).filter(|rest| !rest.is_zero()) else {
                return Err(Error::Timeout { operation: self.operation, waited });
            };
            state = self.hub.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.hub.lock().rounds.get(&self.number).is_none_or(|round| round.outcome.is_some())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(round) = state.rounds.get_mut(&self.number) {
            round.through += 1;
            if round.through == self.hub.world {
                state.rounds.remove(&self.number);
            }
        }
    }
}

impl Group for LocalGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.hub.world
    }

    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        self.in_place(Operation::AllReduce, tensor, Some(op), 0)
    }

    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work> {
        let operation = Operation::AllGather;
        let (output, input) = (check::flat(operation, output, None)?, check::flat(operation, input, None)?);
        check::parts(operation, &output, &input, self.hub.world)?;
        let call = Call { operation, op: None, root: 0, kind: Some(input.kind()), values: input.numel() };
        self.start(call, Contribution { output: Some(output), input: Some(input) })
    }

    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work> {
        let operation = Operation::ReduceScatter;
        let (output, input) = (check::flat(operation, output, None)?, check::flat(operation, input, None)?);
        check::parts(operation, &input, &output, self.hub.world)?;
        let call =
            Call { operation, op: Some(op), root: 0, kind: Some(output.kind()), values: output.numel() };
        self.start(call, Contribution { output: Some(output), input: Some(input) })
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        check::root(root, self.hub.world)?;
        self.in_place(Operation::Broadcast, tensor, None, root)
    }

    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work> {
        let operation = Operation::Shift;
        check::places(by, self.hub.world)?;
        let (output, input) = (check::flat(operation, output, None)?, check::flat(operation, input, None)?);
        check::parts(operation, &output, &input, 1)?;
        let call = Call { operation, op: None, root: by, kind: Some(input.kind()), values: input.numel() };
        self.start(call, Contribution { output: Some(output), input: Some(input) })
    }

    fn barrier(&self) -> Result<Work> {
        let call = Call { operation: Operation::Barrier, op: None, root: 0, kind: None, values: 0 };
        self.start(call, Contribution { output: None, input: None })
    }

    fn sent(&self) -> Sent {
        self.meter.sent()
    }

    fn aborter(&self) -> Aborter {
        let (hub, rank) = (Arc::clone(&self.hub), self.rank);
        Aborter::new(move || hub.leave(rank))
    }

    fn shutdown(&self) {
        self.hub.leave(self.rank);
    }
}

impl Drop for LocalGroup {
    fn drop(&mut self) {
        self.shutdown();
    }
}
