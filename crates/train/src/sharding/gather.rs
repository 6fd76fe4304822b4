//! A block that comes together from all ranks' slices.

use collective::{Group, Work};
use tch::{Kind, Tensor};

use super::Ranks;
use crate::Error;

/// A flat buffer, and the gather that fills it while that runs.
#[derive(Debug)]
pub(super) struct Gather {
    /// `[padded]`; to be read after [`Gather::ready`].
    flat: Tensor,
    work: Option<Work>,
}

impl Gather {
    /// Starts to gather every rank's `slice` `[n]` into a fresh buffer.
    pub(super) fn start(slice: &Tensor, kind: Kind, group: &dyn Group) -> Result<Self, Error> {
        let len = (slice.numel() * group.world_size()) as i64;
        Self::into(Tensor::empty([len], (kind, slice.device())), slice, group)
    }

    /// Starts to gather every rank's `slice` `[n]` into `flat`.
    pub(super) fn into(flat: Tensor, slice: &Tensor, group: &dyn Group) -> Result<Self, Error> {
        let work = group.all_gather_base(&flat, slice)?;
        Ok(Self { flat, work: Some(work) })
    }

    /// Waits; gives the buffer.
    pub(super) fn ready(&mut self, ranks: &Ranks<'_>) -> Result<&Tensor, Error> {
        if let Some(work) = self.work.take() {
            work.wait(ranks.deadline)?;
        }
        Ok(&self.flat)
    }
}
