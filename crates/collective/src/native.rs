//! A group over one of libtorch's process groups: what Gloo and NCCL share.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use crate::sent::{Meter, Sent};
use crate::shim::{Call, Failure, GroupHandle, LineHandle, WorkHandle};
use crate::{Aborter, Error, Operation, ReduceOp, Result, Work, check, reduce};

/// How long operations may take to end after the group was closed. Gloo tells those that wait for a connection that it
/// broke, except one whose message is half sent or half received (`Pair::signalException` in gloo/transport/tcp/pair.cc
/// goes through neither `tx_`'s unbound buffers nor `rx_`): that one waits for its own limit, and nobody waits for it.
const ENDING: Duration = Duration::from_secs(1);

/// How often a wait on Gloo looks whether the group was closed meanwhile. Waits on NCCL end with its abort, and must not
/// end early: c10d tears the communicator down when the time of one is out.
const LOOK: Duration = Duration::from_millis(250);

/// How a transport scatters a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scatter {
    /// Its own reduce-scatter.
    #[cfg_attr(not(feature = "nccl"), allow(dead_code, reason = "Gloo has none that honours a deadline"))]
    Own,
    /// Every rank gets its parts by all-to-all and reduces them itself.
    AllToAll,
}

/// Whether a group can still be used, and if not, why; shared with its [`Aborter`]s.
#[derive(Debug, Default)]
struct Fate {
    /// Since when it is closed here.
    closed: OnceLock<Instant>,
    lost: OnceLock<String>,
}

impl Fate {
    fn close(&self) {
        self.closed.get_or_init(Instant::now);
    }

    /// How much longer operations may take to end, which is without a limit while it is open.
    fn ending(&self) -> Duration {
        self.closed.get().map_or(Duration::MAX, |closed| ENDING.saturating_sub(closed.elapsed()))
    }

    fn usable(&self) -> Result<()> {
        if self.closed.get().is_some() {
            return Err(Error::Closed);
        }
        match self.lost.get() {
            Some(detail) => Err(Error::PeerLost { detail: detail.clone() }),
            None => Ok(()),
        }
    }

    /// The error that a failure amounts to: after a shutdown here, broken connections are no news.
    fn explain(&self, failure: Failure, operation: Operation, waited: Duration) -> Error {
        if self.closed.get().is_some() {
            return Error::Closed;
        }
        if let Failure::PeerLost(detail) = &failure {
            let _ = self.lost.set(detail.clone());
        }
        failure.or_timeout(Error::Timeout { operation, waited })
    }
}

/// Operations that nobody waits for any more but that still use their tensors.
type Graveyard = Rc<RefCell<Vec<Running>>>;

/// An operation that runs, with the tensors that it uses.
struct Running {
    work: WorkHandle,
    tensors: Vec<Tensor>,
}

/// What the wait does after the operation itself has ended.
enum Then {
    Nothing,
    /// Reduces `parts`, one of `[n]` a rank, into `output` `[n]`.
    Reduce {
        parts: Vec<Tensor>,
        output: Tensor,
        op: ReduceOp,
    },
}

/// See [`Work`].
pub(crate) struct Pending {
    operation: Operation,
    running: Option<Running>,
    then: Then,
    fate: Arc<Fate>,
    graveyard: Graveyard,
    meter: Rc<Meter>,
    look: Duration,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({})", self.operation)
    }
}

impl Pending {
    pub(crate) fn wait(mut self, deadline: Duration) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        let start = Instant::now();
        let ended = self.end(&running.work, deadline);
        self.meter.wait(start.elapsed());
        ended.map_err(|failure| self.fate.explain(failure, self.operation, start.elapsed()))?;
        self.running = None;
        if let Then::Reduce { parts, output, op } = &self.then {
            let _no_grad = tch::no_grad_guard();
            reduce::over_ranks(parts, *op, output)?;
        }
        Ok(())
    }

    /// Waits for the operation's end, `deadline` at most, and once the group is closed no longer than operations take.
    fn end(&self, work: &WorkHandle, deadline: Duration) -> std::result::Result<(), Failure> {
        let start = Instant::now();
        loop {
            let left = deadline.saturating_sub(start.elapsed()).min(self.fate.ending());
            // One that ends while its wait gives up has not failed.
            let was_over = work.is_completed();
            match work.wait(left.min(self.look)) {
                Err(Failure::Timeout) if left > self.look && !was_over => {}
                ended => return ended,
            }
        }
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.work.is_completed())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(running) = self.running.take().filter(|running| !running.work.is_completed()) {
            self.graveyard.borrow_mut().push(running);
        }
    }
}

/// A rank's end of a c10d process group.
pub(crate) struct NativeGroup {
    rank: usize,
    world: usize,
    device: Device,
    scatter: Scatter,
    group: RefCell<Option<GroupHandle>>,
    line: Arc<LineHandle>,
    fate: Arc<Fate>,
    graveyard: Graveyard,
    meter: Rc<Meter>,
}

impl NativeGroup {
    pub(crate) fn new(
        group: GroupHandle,
        rank: usize,
        world: usize,
        device: Device,
        scatter: Scatter,
    ) -> Self {
        Self {
            rank,
            world,
            device,
            scatter,
            line: Arc::new(group.line()),
            group: RefCell::new(Some(group)),
            fate: Arc::default(),
            graveyard: Graveyard::default(),
            meter: Rc::new(Meter::new(world)),
        }
    }

    /// Starts `call` with the `tensors` that it uses; the first is what the operation is measured by.
    fn start(&self, operation: Operation, call: Call<'_>, tensors: Vec<Tensor>, then: Then) -> Result<Work> {
        self.fate.usable()?;
        self.graveyard.borrow_mut().retain(|running| !running.work.is_completed());
        let group = self.group.borrow();
        let group = group.as_ref().ok_or(Error::Closed)?;
        let work =
            group.start(call).map_err(|failure| self.fate.explain(failure, operation, Duration::ZERO))?;
        if let Some(part) = tensors.first() {
            self.meter.note(operation, part);
        }
        Ok(Work::native(Pending {
            operation,
            running: Some(Running { work, tensors }),
            then,
            fate: Arc::clone(&self.fate),
            graveyard: Rc::clone(&self.graveyard),
            meter: Rc::clone(&self.meter),
            look: if self.device.is_cuda() { Duration::MAX } else { LOOK },
        }))
    }

    fn flat(&self, operation: Operation, tensor: &Tensor) -> Result<Tensor> {
        check::flat(operation, tensor, Some(self.device))
    }
}

impl crate::Group for NativeGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world
    }

    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        let tensor = self.flat(Operation::AllReduce, tensor)?;
        if tensor.numel() == 0 {
            return self.fate.usable().map(|()| Work::done());
        }
        let call = Call::AllReduce { tensor: &tensor, op };
        self.start(Operation::AllReduce, call, vec![tensor.shallow_clone()], Then::Nothing)
    }

    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work> {
        let operation = Operation::AllGather;
        let (output, input) = (self.flat(operation, output)?, self.flat(operation, input)?);
        check::parts(operation, &output, &input, self.world)?;
        if input.numel() == 0 {
            return self.fate.usable().map(|()| Work::done());
        }
        let tensors = vec![input.shallow_clone(), output.shallow_clone()];
        self.start(operation, Call::AllGather { output: &output, input: &input }, tensors, Then::Nothing)
    }

    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work> {
        let operation = Operation::ReduceScatter;
        let (output, input) = (self.flat(operation, output)?, self.flat(operation, input)?);
        check::parts(operation, &input, &output, self.world)?;
        if output.numel() == 0 {
            return self.fate.usable().map(|()| Work::done());
        }
        match self.scatter {
            Scatter::Own => {
                let tensors = vec![output.shallow_clone(), input.shallow_clone()];
                let call = Call::ReduceScatter { output: &output, input: &input, op };
                self.start(operation, call, tensors, Then::Nothing)
            }
            Scatter::AllToAll => {
                let received = input.f_empty_like()?;
                let parts = received.f_chunk(self.world as i64, 0)?;
                let tensors = vec![output.shallow_clone(), received.shallow_clone(), input.shallow_clone()];
                let call = Call::AllToAll { output: &received, input: &input };
                self.start(operation, call, tensors, Then::Reduce { parts, output, op })
            }
        }
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        check::root(root, self.world)?;
        let tensor = self.flat(Operation::Broadcast, tensor)?;
        if tensor.numel() == 0 {
            return self.fate.usable().map(|()| Work::done());
        }
        let call = Call::Broadcast { tensor: &tensor, root };
        self.start(Operation::Broadcast, call, vec![tensor.shallow_clone()], Then::Nothing)
    }

    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work> {
        check::places(by, self.world)?;
        let operation = Operation::Shift;
        let (output, input) = (self.flat(operation, output)?, self.flat(operation, input)?);
        check::parts(operation, &output, &input, 1)?;
        if input.numel() == 0 {
            return self.fate.usable().map(|()| Work::done());
        }
        let tensors = vec![input.shallow_clone(), output.shallow_clone()];
        let call = Call::Shift { output: &output, input: &input, by };
        self.start(operation, call, tensors, Then::Nothing)
    }

    fn barrier(&self) -> Result<Work> {
        self.start(Operation::Barrier, Call::Barrier, Vec::new(), Then::Nothing)
    }

    fn sent(&self) -> Sent {
        self.meter.sent()
    }

    fn waited(&self) -> Duration {
        self.meter.waited()
    }

    fn wire_bytes(&self) -> Option<u64> {
        self.line.sent()
    }

    fn aborter(&self) -> Aborter {
        let (fate, line) = (Arc::clone(&self.fate), Arc::clone(&self.line));
        Aborter::new(move || {
            fate.close();
            line.cut();
        })
    }

    fn shutdown(&self) {
        self.fate.close();
        self.line.cut();
        for running in self.graveyard.borrow().iter() {
            // How it ends does not matter, only that it no longer touches its tensors: one that Gloo forgot does not.
            let _ = running.work.wait(self.fate.ending());
        }
        if let Some(group) = self.group.borrow_mut().take() {
            group.free_within(if self.device.is_cuda() { Duration::MAX } else { self.fate.ending() });
        }
        self.graveyard.borrow_mut().retain(|running| !running.work.is_completed());
    }
}

impl Drop for NativeGroup {
    fn drop(&mut self) {
        crate::Group::shutdown(self);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({} tensors)", self.tensors.len())
    }
}
