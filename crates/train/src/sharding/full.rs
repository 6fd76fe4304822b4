//! `sharding: full`: a rank owns a slice of every block; a block comes together where it is used, and its gradient
//! goes to the owners after every micro-batch.
//!
//! A block is whole from its gather to its use, once forward and once backward, whatever is recomputed: between the
//! two a graph keeps its activations, and the place of its parameters without their memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use collective::{ReduceOp, Work};
use model::Params;
use settings::Optimizer;
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::flat::Flat;
use super::gather::Gather;
use super::shard::{Cut, Digests, Shard, digest};
use super::{Piece, Place, Ranks, Sharding, Slices, Take};
use crate::Error;
use crate::adamw::AdamW;
use crate::blocks::{BlockId, layout};
use crate::norm::square_sum;

/// Sums over ranks that may be under way at once: each holds a block's whole gradient.
const SUMS: usize = 2;

/// Every rank owns a slice.
#[derive(Debug)]
pub(crate) struct Full {
    place: Place,
    kind: Kind,
    device: Device,
    trained: BTreeMap<BlockId, Shard>,
    frozen: BTreeMap<BlockId, Frozen>,
    /// Of the frozen slices, once they were asked for.
    frozen_digests: Option<Digests>,
    /// Where blocks come together.
    whole: BTreeMap<BlockId, Whole>,
    /// The rollout's weights.
    all: Params,
    /// Whole gradients of the running micro-batch, f32 `[padded]`.
    open: BTreeMap<BlockId, Tensor>,
    /// Blocks used in the running micro-batch, by all ranks alike, whose gradient has not gone to its owners.
    used: BTreeSet<BlockId>,
    sums: VecDeque<Sum>,
    norm: f64,
    step: u64,
}

/// A rank's slice of what a block has of frozen parameters, in compute type.
#[derive(Debug)]
struct Frozen {
    cut: Cut,
    values: Tensor,
}

/// The two halves of a block: what trains and what does not.
#[derive(Debug, Default)]
struct Whole {
    trained: Option<Flat>,
    frozen: Option<Flat>,
}

impl Whole {
    fn let_go(&mut self) {
        [&mut self.trained, &mut self.frozen].into_iter().flatten().for_each(Flat::let_go);
    }
}

/// A block's gradient on its way to its owners.
#[derive(Debug)]
struct Sum {
    block: BlockId,
    /// f32 `[part]`.
    part: Tensor,
    work: Work,
}

impl Full {
    /// Takes this rank's slices of `weights` (f32, all names), for compute type `kind` on `device`; those for which
    /// `trains` holds get masters with fresh moments.
    ///
    /// # Errors
    /// If a name belongs to no block.
    pub(crate) fn new(
        weights: &Params,
        trains: impl Fn(&str) -> bool,
        kind: Kind,
        device: Device,
        place: Place,
    ) -> Result<Self, Error> {
        let _guard = no_grad_guard();
        let (trained, frozen): (Vec<_>, Vec<_>) = weights
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.size()))
            .partition(|(name, _)| trains(name));
        let trained = layout(trained)?.into_iter();
        let trained = trained.map(|(id, block)| (id, Shard::new(block, place, weights, kind, device)));
        let trained: BTreeMap<_, _> = trained.collect();
        let frozen = layout(frozen)?.into_iter().map(|(id, block)| {
            let cut = Cut::new(block, place);
            (id, Frozen { values: cut.slice(weights, kind, device), cut })
        });
        let frozen: BTreeMap<_, _> = frozen.collect();
        let mut whole: BTreeMap<BlockId, Whole> = BTreeMap::new();
        for (id, shard) in &trained {
            whole.entry(*id).or_default().trained = Some(Flat::new(shard.cut.padded(), kind, device)?);
        }
        for (id, Frozen { cut, .. }) in &frozen {
            whole.entry(*id).or_default().frozen = Some(Flat::new(cut.padded(), kind, device)?);
        }
        Ok(Self {
            place,
            kind,
            device,
            trained,
            frozen,
            frozen_digests: None,
            whole,
            all: Params::new(),
            open: BTreeMap::new(),
            used: BTreeSet::new(),
            sums: VecDeque::new(),
            norm: 0.0,
            step: 0,
        })
    }

    /// All blocks, in the order of the forward pass.
    fn blocks(&self) -> Vec<BlockId> {
        self.whole.keys().copied().collect()
    }

    /// Starts a block's gather unless it is here.
    fn start(&mut self, id: BlockId, ranks: &Ranks<'_>) -> Result<(), Error> {
        let Some(whole) = self.whole.get_mut(&id) else { return Ok(()) };
        if let (Some(flat), Some(shard)) = (&mut whole.trained, self.trained.get(&id)) {
            flat.start(&shard.compute, ranks.group)?;
        }
        if let (Some(flat), Some(Frozen { values, .. })) = (&mut whole.frozen, self.frozen.get(&id)) {
            flat.start(values, ranks.group)?;
        }
        Ok(())
    }

    /// A block in memory of its own.
    fn copy(&self, id: BlockId, ranks: &Ranks<'_>) -> Result<Vec<(String, Tensor)>, Error> {
        let _guard = no_grad_guard();
        let mut params = Vec::new();
        let slices = [
            self.trained.get(&id).map(|shard| (&shard.cut, &shard.compute)),
            self.frozen.get(&id).map(|frozen| (&frozen.cut, &frozen.values)),
        ];
        for (cut, slice) in slices.into_iter().flatten() {
            let mut gather = Gather::start(slice, self.kind, ranks.group)?;
            params.extend(cut.views(gather.ready(ranks)?));
        }
        Ok(params)
    }

    /// The parameters of a block that is here.
    fn wait(&mut self, id: BlockId, ranks: &Ranks<'_>) -> Result<Vec<(String, Tensor)>, Error> {
        let mut params = Vec::new();
        let Some(whole) = self.whole.get_mut(&id) else { return Ok(params) };
        if let (Some(flat), Some(shard)) = (&mut whole.trained, self.trained.get(&id)) {
            params.extend(shard.cut.views(flat.ready(ranks)?));
        }
        if let (Some(flat), Some(frozen)) = (&mut whole.frozen, self.frozen.get(&id)) {
            params.extend(frozen.cut.views(flat.ready(ranks)?));
        }
        Ok(params)
    }

    /// Takes in the oldest sum, if there is one.
    pub(super) fn take_sum(&mut self, ranks: &Ranks<'_>) -> Result<bool, Error> {
        let Some(Sum { block, part, work }) = self.sums.pop_front() else { return Ok(false) };
        work.wait(ranks.deadline)?;
        if let Some(shard) = self.trained.get_mut(&block) {
            let _ = shard.grad.g_add_(&part);
        }
        Ok(true)
    }

    /// This rank's slices of the gradient, of the blocks after `last_open` of which no sum is under way, the last
    /// block first.
    pub(super) fn summed(&self, last_open: Option<BlockId>) -> impl Iterator<Item = (BlockId, &Tensor)> {
        let closed = self.trained.iter().rev().take_while(move |(id, _)| Some(**id) > last_open);
        let under_way = |id: BlockId| self.sums.iter().any(|sum| sum.block == id);
        closed.filter(move |(id, _)| !under_way(**id)).map(|(id, shard)| (*id, &shard.grad))
    }

    /// Gradient buffers of their own; whoever still writes to the old ones does no harm.
    pub(super) fn renew_gradients(&mut self) {
        for shard in self.trained.values_mut() {
            shard.grad = shard.grad.zeros_like();
        }
    }
}

impl Sharding for Full {
    fn trains(&self, name: &str) -> bool {
        BlockId::of(name).is_ok_and(|id| self.trained.get(&id).is_some_and(|shard| shard.cut.holds(name)))
    }

    fn has(&self, name: &str) -> bool {
        let frozen = |id| self.frozen.get(&id).is_some_and(|frozen| frozen.cut.holds(name));
        self.trains(name) || BlockId::of(name).is_ok_and(frozen)
    }

    fn announce(&mut self, next: &[&[String]], ranks: &Ranks<'_>) -> Result<(), Error> {
        let mut ids = Vec::new();
        for name in next.iter().copied().flatten() {
            let id = BlockId::of(name)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        for (_, whole) in self.whole.iter_mut().filter(|(id, _)| !ids.contains(id)) {
            whole.let_go();
        }
        for id in ids {
            self.used.insert(id);
            self.start(id, ranks)?;
        }
        Ok(())
    }

    fn params(&mut self, names: &[String], ranks: &Ranks<'_>) -> Result<Params, Error> {
        let ids: BTreeSet<BlockId> = names.iter().map(|name| BlockId::of(name)).collect::<Result<_, _>>()?;
        let mut params = Params::new();
        for id in ids {
            self.used.insert(id);
            self.start(id, ranks)?;
            for (name, tensor) in self.wait(id, ranks)? {
                if names.contains(&name) {
                    params.insert(name, tensor);
                }
            }
        }
        match names.iter().find(|name| params.find(name).is_none()) {
            Some(name) => Err(Error::UnknownParameter { name: name.clone() }),
            None => Ok(params),
        }
    }

    fn release(&mut self) {
        self.whole.values_mut().for_each(Whole::let_go);
        self.all = Params::new();
    }

    fn gather_all(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        let mut all = Params::new();
        for id in self.blocks() {
            for (name, tensor) in self.copy(id, ranks)? {
                all.insert(name, tensor);
            }
        }
        self.all = all;
        Ok(())
    }

    fn all_params(&self) -> &Params {
        &self.all
    }

    fn reset(&mut self) {
        let _guard = no_grad_guard();
        self.release();
        self.open.clear();
        self.used.clear();
        self.sums.clear();
        for shard in self.trained.values_mut() {
            let _ = shard.grad.zero_();
        }
    }

    fn accumulate(&mut self, name: &str, gradient: &Tensor) {
        let _guard = no_grad_guard();
        let Ok(id) = BlockId::of(name) else { return };
        let Some(shard) = self.trained.get(&id) else { return };
        let Some(entry) = shard.cut.block.entries.iter().find(|entry| entry.name == name) else { return };
        let fresh = || Tensor::zeros([shard.cut.padded()], (Kind::Float, self.device));
        let flat = self.open.entry(id).or_insert_with(fresh);
        let _ = entry.view(flat).g_add_(gradient);
    }

    fn reduce_above(
        &mut self,
        last_open: Option<BlockId>,
        _last: bool,
        ranks: &Ranks<'_>,
    ) -> Result<(), Error> {
        let _guard = no_grad_guard();
        let closed: Vec<BlockId> =
            self.used.iter().rev().copied().take_while(|id| Some(*id) > last_open).collect();
        for id in closed {
            self.used.remove(&id);
            let Some(shard) = self.trained.get(&id) else { continue };
            let fresh = || Tensor::zeros([shard.cut.padded()], (Kind::Float, self.device));
            let flat = self.open.remove(&id).unwrap_or_else(fresh);
            let part = shard.grad.empty_like();
            let work = ranks.group.reduce_scatter_base(&part, &flat, ReduceOp::Sum)?;
            self.sums.push_back(Sum { block: id, part, work });
            if self.sums.len() > SUMS {
                self.take_sum(ranks)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        let _guard = no_grad_guard();
        if let Some(&block) = self.used.last() {
            return Err(Error::NotReduced { block });
        }
        while self.take_sum(ranks)? {}
        let own = self.trained.values().map(|shard| square_sum(&shard.grad)).sum();
        self.norm = ranks.sum(own, self.device)?.sqrt();
        Ok(())
    }

    fn norm(&self) -> f64 {
        self.norm
    }

    fn apply(&mut self, optimizer: &Optimizer, lr: f64, factor: f64) {
        let _guard = no_grad_guard();
        self.step += 1;
        let adamw = AdamW::at(optimizer, lr, self.step);
        self.trained.values_mut().for_each(|shard| shard.apply(&adamw, factor));
        self.release();
    }

    fn digest(&mut self) -> String {
        let frozen = self.frozen.values().flat_map(|f| f.cut.pieces("frozen", &f.values));
        let known = self.frozen_digests.get_or_insert_with(|| frozen.map(|piece| digest(&piece)).collect());
        let mut digests = known.clone();
        digests.extend(self.trained.values().flat_map(Shard::digests));
        checkpoint::weights_digest(digests.values())
    }

    fn part(&self) -> Place {
        self.place
    }

    fn gradient(&self, _: &str) -> Option<Tensor> {
        None
    }

    fn each_weight(&mut self, ranks: &Ranks<'_>, take: &mut Take<'_>) -> Result<(), Error> {
        let _guard = no_grad_guard();
        for id in self.blocks() {
            if let Some(shard) = self.trained.get(&id) {
                let mut gather = Gather::start(&shard.master, Kind::Float, ranks.group)?;
                let flat = gather.ready(ranks)?;
                shard.cut.views(flat).try_for_each(|(name, weight)| take(&name, weight))?;
            }
            if let Some(Frozen { cut, values }) = self.frozen.get(&id) {
                let mut gather = Gather::start(values, self.kind, ranks.group)?;
                let flat = gather.ready(ranks)?;
                cut.views(flat).try_for_each(|(name, weight)| take(&name, weight))?;
            }
        }
        Ok(())
    }

    fn pieces(&self) -> Vec<Piece> {
        let frozen = self.frozen.values().flat_map(|f| f.cut.pieces("frozen", &f.values));
        frozen.chain(self.trained.values().flat_map(Shard::pieces)).collect()
    }

    fn slices(&self) -> Slices {
        Slices {
            trained: self.trained.values().map(Shard::slice).collect(),
            frozen: self.frozen.values().map(|frozen| frozen.values.shallow_clone()).collect(),
            shared: Vec::new(),
        }
    }

    fn steps(&self) -> u64 {
        self.step
    }

    fn refresh(&mut self, steps: u64) {
        let _guard = no_grad_guard();
        self.step = steps;
        self.frozen_digests = None;
        self.trained.values_mut().for_each(Shard::refresh);
        self.release();
    }
}
