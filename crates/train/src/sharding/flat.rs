//! A block that comes together again and again, in memory that it takes only for as long.

use collective::{Buffer, Group, Work};
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::Ranks;
use crate::Error;

/// A gathered block's place: parameters are views of it, and stay what they are while it is gone.
#[derive(Debug)]
pub(super) struct Flat {
    buffer: Buffer,
    kind: Kind,
    device: Device,
    work: Option<Work>,
}

impl Flat {
    /// `[len]`, gone.
    pub(super) fn new(len: i64, kind: Kind, device: Device) -> Result<Self, Error> {
        let _guard = no_grad_guard();
        Ok(Self { buffer: Buffer::new(len, kind, device)?, kind, device, work: None })
    }

    /// Starts to gather every rank's `slice`, unless it is here or on its way.
    pub(super) fn start(&mut self, slice: &Tensor, group: &dyn Group) -> Result<(), Error> {
        if !self.buffer.is_held() {
            let _guard = no_grad_guard();
            self.buffer.hold()?;
            let started = group.all_gather_base(&self.buffer.content()?, slice);
            self.work = Some(started.inspect_err(|_| self.let_go())?);
        }
        Ok(())
    }

    /// Waits; gives the block `[len]`.
    pub(super) fn ready(&mut self, ranks: &Ranks<'_>) -> Result<&Tensor, Error> {
        if let Some(work) = self.work.take()
            && let Err(lost) = work.wait(ranks.deadline)
        {
            self.replace();
            return Err(lost.into());
        }
        Ok(self.buffer.tensor())
    }

    /// Gives the memory back; whoever has views of it reads them only when it is here again.
    pub(super) fn let_go(&mut self) {
        if self.work.take().is_some() {
            return self.replace();
        }
        // SAFETY: no operation is under way. Views are leaves of a link, which reads them between
        // `Sharding::params` and the next `Sharding::announce`, when the block is here.
        if unsafe { self.buffer.release() }.is_err() {
            self.replace();
        }
    }

    /// Leaves the memory to the operation that may still write to it.
    fn replace(&mut self) {
        if let Ok(fresh) = Self::new(self.buffer.tensor().numel() as i64, self.kind, self.device) {
            *self = fresh;
        }
    }
}
