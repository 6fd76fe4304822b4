//! What a forward and backward pass sees of the weights.

use std::time::Instant;

use model::Params;
use tch::Tensor;

use super::{Ranks, Sharding, Widened};
use crate::Error;
use crate::blocks::BlockId;

/// Weights during a pass: [`Sharding`] with the ranks that it gathers and sums over.
pub(crate) trait Weights {
    /// See [`Sharding::trains`].
    fn trains(&self, name: &str) -> bool;
    /// See [`Sharding::announce`].
    fn announce(&mut self, next: &[&[String]]) -> Result<(), Error>;
    /// In compute type, see [`Sharding::params`].
    fn params(&mut self, names: &[String]) -> Result<Params, Error>;
    /// See [`Sharding::accumulate`].
    fn accumulate(&mut self, name: &str, gradient: &Tensor);
    /// See [`Sharding::reduce_above`].
    fn reduce_above(&mut self, last_open: Option<BlockId>) -> Result<(), Error>;
}

/// A sharding strategy during one micro-batch.
pub(crate) struct Joined<'a> {
    pub(crate) sharding: &'a mut dyn Sharding,
    /// In compute type, where that is not the one that they are held in.
    pub(crate) widened: Widened,
    pub(crate) ranks: Ranks<'a>,
    /// Whether it is the step's last micro-batch.
    pub(crate) last: bool,
    /// When the first block was through with its backward: until then there is no gradient to send.
    pub(crate) closed: Option<Instant>,
}

impl Weights for Joined<'_> {
    fn trains(&self, name: &str) -> bool {
        self.sharding.trains(name)
    }

    fn announce(&mut self, next: &[&[String]]) -> Result<(), Error> {
        self.widened.keep(next.first().copied().unwrap_or_default())?;
        self.sharding.announce(next, &self.ranks)
    }

    fn params(&mut self, names: &[String]) -> Result<Params, Error> {
        let params = self.sharding.params(names, &self.ranks)?;
        self.widened.widen(params)
    }

    fn accumulate(&mut self, name: &str, gradient: &Tensor) {
        self.sharding.accumulate(name, gradient);
    }

    fn reduce_above(&mut self, last_open: Option<BlockId>) -> Result<(), Error> {
        self.closed.get_or_insert_with(Instant::now);
        self.sharding.reduce_above(last_open, self.last, &self.ranks)
    }
}
