//! Where a rank stands, and whom it stands with.

use std::fmt;
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

/// Where a rank stands in its world, and within the part of it that shares its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Among all ranks.
    pub world: Place,
    /// Among the ranks of its node; among all, where nothing is known of nodes.
    pub within: Place,
    /// Number of its node among those that hold a copy.
    pub copy: usize,
}

impl Seat {
    /// A rank's seat in its group.
    pub fn in_group(group: &dyn Group) -> Self {
        let world = Place::in_group(group);
        match group.parts() {
            Some(parts) => Self { world, within: Place::in_group(parts.within), copy: parts.across.rank() },
            None => Self::from(world),
        }
    }
}

impl From<Place> for Seat {
    /// All ranks on one node.
    fn from(world: Place) -> Self {
        Self { world, within: world, copy: 0 }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { world, within, .. } = self;
        write!(f, "rank {} of {}", world.index, world.of)?;
        if world == within {
            return Ok(());
        }
        write!(f, " ({} of {} on its node)", within.index, within.of)
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
    /// Those on this rank's node; all, where nothing is known of nodes.
    pub(crate) fn within(&self) -> Self {
        Self { group: self.group.parts().map_or(self.group, |parts| parts.within), ..*self }
    }

    /// Those that hold the same part on other nodes, with this one; none where nothing is known of nodes.
    pub(crate) fn across(&self) -> Option<Self> {
        self.group.parts().map(|parts| Ranks { group: parts.across, deadline: self.deadline })
    }

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
