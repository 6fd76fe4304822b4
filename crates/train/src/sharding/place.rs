//! Where a rank stands, and whom it stands with.

use std::time::Duration;

use collective::{Group, ReduceOp};
use tch::{Device, Tensor};

use crate::Error;

/// A place in a row of equals: a rank in its world, or a part among all parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In `0..of`.
    pub index: usize,
    /// At least 1.
    pub of: usize,
}

impl Place {
    /// The one of one.
    pub const ALONE: Self = Self { index: 0, of: 1 };

    /// A rank's place in its group.
    pub fn in_group(group: &dyn Group) -> Self {
        Self { index: group.rank(), of: group.world_size() }
    }
}

/// The ranks of a step, as seen from one of them.
#[derive(Clone, Copy)]
pub(crate) struct Ranks<'a> {
    /// Their group.
    pub(crate) group: &'a dyn Group,
    /// Bound on each wait.
    pub(crate) deadline: Duration,
}

impl Ranks<'_> {
    /// The sum of every rank's `value`, the same bits on all: exchanged in f64 and added in rank order.
    pub(crate) fn sum(&self, value: f64, device: Device) -> Result<f64, Error> {
        let world = self.group.world_size();
        if world == 1 {
            return Ok(value);
        }
        let own = Tensor::from_slice(&[value.to_bits().cast_signed()]).to_device(device);
        let all = Tensor::zeros([world as i64], (tch::Kind::Int64, device));
        self.group.all_gather_base(&all, &own)?.wait(self.deadline)?;
        let bits = (0..world as i64).map(|rank| all.int64_value(&[rank]).cast_unsigned());
        Ok(bits.map(f64::from_bits).sum())
    }

    /// The largest over ranks of each value.
    pub(crate) fn largest<const N: usize>(
        &self,
        values: [i64; N],
        device: Device,
    ) -> Result<[i64; N], Error> {
        if self.group.world_size() == 1 {
            return Ok(values);
        }
        let own = Tensor::from_slice(&values).to_device(device);
        self.group.all_reduce(&own, ReduceOp::Max)?.wait(self.deadline)?;
        Ok(std::array::from_fn(|i| own.int64_value(&[i as i64])))
    }
}
