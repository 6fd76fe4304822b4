//! `sharding: hybrid`: full within a node, replicate across. A node's ranks hold everything in slices, and every node
//! holds a copy; what is gathered and scattered stays within the node, and the summed slices of the gradient are summed
//! over the nodes once a step, each by the ranks that own it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use collective::{ReduceOp, Work};
use model::Params;
use settings::Optimizer;
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::full::Full;
use super::{Piece, Place, Ranks, Seat, Sharding, Slices, Take};
use crate::Error;
use crate::blocks::BlockId;

/// Slices within a node, copies across nodes.
#[derive(Debug)]
pub(crate) struct Hybrid {
    full: Full,
    seat: Seat,
    /// Sums over nodes that are under way or have failed; none between steps that went well.
    across: BTreeMap<BlockId, Option<Work>>,
}

impl Hybrid {
    /// As [`Full::new`], cut over the ranks of this one's node.
    ///
    /// # Errors
    /// If a name belongs to no block.
    pub(crate) fn new(
        weights: &Params,
        trains: impl Fn(&str) -> bool,
        kind: Kind,
        device: Device,
        seat: Seat,
    ) -> Result<Self, Error> {
        let full = Full::new(weights, trains, kind, device, seat.within)?;
        Ok(Self { full, seat, across: BTreeMap::new() })
    }

    /// Starts to sum over nodes what is summed within this one, of the blocks after `last_open`. What is summed by
    /// now depends on the calls alone, so the ranks of all nodes start the same sums in the same order.
    fn cross(&mut self, last_open: Option<BlockId>, ranks: &Ranks<'_>) -> Result<(), Error> {
        let Some(across) = ranks.across() else { return Ok(()) };
        for (id, gradient) in self.full.summed(last_open) {
            if let Entry::Vacant(place) = self.across.entry(id) {
                place.insert(Some(across.group.all_reduce(gradient, ReduceOp::Sum)?));
            }
        }
        Ok(())
    }
}

impl Sharding for Hybrid {
    fn trains(&self, name: &str) -> bool {
        self.full.trains(name)
    }

    fn has(&self, name: &str) -> bool {
        self.full.has(name)
    }

    fn announce(&mut self, next: &[&[String]], ranks: &Ranks<'_>) -> Result<(), Error> {
        self.full.announce(next, &ranks.within())
    }

    fn params(&mut self, names: &[String], ranks: &Ranks<'_>) -> Result<Params, Error> {
        self.full.params(names, &ranks.within())
    }

    fn release(&mut self) {
        self.full.release();
    }

    fn gather_all(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        self.full.gather_all(&ranks.within())
    }

    fn all_params(&self) -> &Params {
        self.full.all_params()
    }

    fn reset(&mut self) {
        if !std::mem::take(&mut self.across).is_empty() {
            let _guard = no_grad_guard();
            self.full.renew_gradients();
        }
        self.full.reset();
    }

    fn accumulate(&mut self, name: &str, gradient: &Tensor) {
        self.full.accumulate(name, gradient);
    }

    fn reduce_above(
        &mut self,
        last_open: Option<BlockId>,
        last: bool,
        ranks: &Ranks<'_>,
    ) -> Result<(), Error> {
        self.full.reduce_above(last_open, last, &ranks.within())?;
        if last { self.cross(last_open, ranks) } else { Ok(()) }
    }

    fn finish(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        let _guard = no_grad_guard();
        let within = ranks.within();
        while self.full.take_sum(&within)? {
            self.cross(None, ranks)?;
        }
        self.cross(None, ranks)?;
        for work in self.across.values_mut().rev() {
            if let Some(work) = work.take() {
                work.wait(ranks.deadline)?;
            }
        }
        self.across.clear();
        self.full.finish(&within)
    }

    fn norm(&self) -> f64 {
        self.full.norm()
    }

    fn apply(&mut self, optimizer: &Optimizer, lr: f64, factor: f64) {
        self.full.apply(optimizer, lr, factor);
    }

    fn digest(&mut self) -> String {
        self.full.digest()
    }

    fn part(&self) -> Place {
        self.full.part()
    }

    fn is_first_copy(&self) -> bool {
        self.seat.copy == 0
    }

    fn gradient(&self, name: &str) -> Option<Tensor> {
        self.full.gradient(name)
    }

    fn each_weight(&mut self, ranks: &Ranks<'_>, take: &mut Take<'_>) -> Result<(), Error> {
        self.full.each_weight(&ranks.within(), take)
    }

    fn pieces(&self) -> Vec<Piece> {
        self.full.pieces()
    }

    fn slices(&self) -> Slices {
        self.full.slices()
    }

    fn steps(&self) -> u64 {
        self.full.steps()
    }

    fn refresh(&mut self, steps: u64) {
        self.full.refresh(steps);
    }
}
