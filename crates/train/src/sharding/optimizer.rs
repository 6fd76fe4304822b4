//! `sharding: optimizer`: every rank holds the compute weights and a whole gradient, but masters and moments of its
//! slices alone. After an update the slices come together again when they are next used.

use std::collections::{BTreeMap, BTreeSet};

use collective::{ReduceOp, Work};
use model::Params;
use settings::Optimizer;
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::gather::Gather;
use super::shard::{Digests, Shard, digest};
use super::{Piece, Place, Ranks, Sharding, Slices, Take};
use crate::Error;
use crate::adamw::AdamW;
use crate::blocks::{BlockId, layout};
use crate::norm::square_sum;

/// Blocks that may be on their way at once: enough that the link does not rest while a large one computes, few enough
/// that a backend's copies of them count for little.
const UNDER_WAY: usize = 6;

/// Masters and moments in slices.
#[derive(Debug)]
pub(crate) struct Sliced {
    place: Place,
    device: Device,
    /// All parameters in compute type; of the trained, views of the blocks' flat buffers.
    compute: Params,
    blocks: BTreeMap<BlockId, Block>,
    frozen: BTreeSet<String>,
    /// Of the frozen, once they were asked for.
    frozen_digests: Option<Digests>,
    norm: f64,
    step: u64,
}

#[derive(Debug)]
struct Block {
    shard: Shard,
    /// Compute type `[padded]`.
    flat: Tensor,
    weights: Weights,
    /// This rank's gradient, f32 `[padded]`.
    grad: Tensor,
    grad_views: BTreeMap<String, Tensor>,
    sum: Sum,
}

/// Whether the flat compute buffer holds all ranks' slices as they are now.
#[derive(Debug)]
enum Weights {
    Current,
    Stale,
    Coming(Gather),
}

/// Where a block's sum over ranks stands.
#[derive(Debug)]
enum Sum {
    Open,
    Running(Work),
    /// The buffers may still be written to.
    Failed,
    Done,
}

impl Block {
    fn fresh_gradient(&mut self) {
        self.grad = self.grad.zeros_like();
        self.shard.grad = self.shard.grad.zeros_like();
        self.grad_views = self.shard.cut.views(&self.grad).collect();
    }

    /// Starts to bring the compute weights up to date, where they are not.
    fn start(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        if matches!(self.weights, Weights::Stale) {
            let gather = Gather::into(self.flat.shallow_clone(), &self.shard.compute, ranks.group)?;
            self.weights = Weights::Coming(gather);
        }
        Ok(())
    }

    fn bring(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        self.start(ranks)?;
        if let Weights::Coming(gather) = &mut self.weights {
            gather.ready(ranks)?;
            self.weights = Weights::Current;
        }
        Ok(())
    }
}

impl Sliced {
    /// Lays `weights` (f32, all names) out for compute type `kind` on `device`; those for which `trains` holds get
    /// this rank's slices of masters and fresh moments.
    ///
    /// # Errors
    /// If a trained name belongs to no block.
    pub(crate) fn new(
        weights: Params,
        trains: impl Fn(&str) -> bool,
        kind: Kind,
        device: Device,
        place: Place,
    ) -> Result<Self, Error> {
        let _guard = no_grad_guard();
        let trained = weights.iter().filter(|(name, _)| trains(name));
        let layout = layout(trained.map(|(name, tensor)| (name.as_str(), tensor.size())))?;
        let (mut blocks, mut compute) = (BTreeMap::new(), Params::new());
        for (id, block) in layout {
            let shard = Shard::new(block, place, &weights, kind, device);
            let flat = Tensor::zeros([shard.cut.padded()], (kind, device));
            for (name, mut view) in shard.cut.views(&flat) {
                view.copy_(weights.get(&name));
                compute.insert(name, view);
            }
            let grad = Tensor::zeros([shard.cut.padded()], (Kind::Float, device));
            let grad_views = shard.cut.views(&grad).collect();
            let block = Block { shard, flat, weights: Weights::Current, grad, grad_views, sum: Sum::Open };
            blocks.insert(id, block);
        }
        let mut frozen = BTreeSet::new();
        for (name, tensor) in weights {
            if compute.find(&name).is_none() {
                frozen.insert(name.clone());
                compute.insert(name, tensor.detach().to_device(device).to_kind(kind));
            }
        }
        Ok(Self { place, device, compute, blocks, frozen, frozen_digests: None, norm: 0.0, step: 0 })
    }

    fn block_of(&mut self, name: &str) -> Option<&mut Block> {
        self.blocks.get_mut(&BlockId::of(name).ok()?)
    }

    /// Starts what is used after the blocks that are on their way: its memory is there in any case.
    fn start_ahead(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        let coming = |block: &&Block| matches!(block.weights, Weights::Coming(_));
        let room = UNDER_WAY.saturating_sub(self.blocks.values().filter(coming).count());
        let stale = self.blocks.values_mut().filter(|block| matches!(block.weights, Weights::Stale));
        stale.take(room).try_for_each(|block| block.start(ranks))
    }

    fn frozen_pieces(&self) -> impl Iterator<Item = Piece> {
        self.frozen.iter().map(|name| {
            let values = self.compute.get(name);
            Piece {
                name: format!("frozen.{name}"),
                shape: values.size(),
                start: 0,
                values: values.view([-1]),
                shared: true,
            }
        })
    }
}

impl Sharding for Sliced {
    fn trains(&self, name: &str) -> bool {
        self.compute.find(name).is_some() && !self.frozen.contains(name)
    }

    fn has(&self, name: &str) -> bool {
        self.compute.find(name).is_some()
    }

    fn announce(&mut self, next: &[&[String]], ranks: &Ranks<'_>) -> Result<(), Error> {
        for name in next.iter().copied().flatten() {
            if let Some(block) = self.block_of(name) {
                block.start(ranks)?;
            }
        }
        self.start_ahead(ranks)
    }

    fn params(&mut self, names: &[String], ranks: &Ranks<'_>) -> Result<Params, Error> {
        for name in names {
            if let Some(block) = self.block_of(name) {
                block.bring(ranks)?;
            }
        }
        let find = |name: &String| match self.compute.find(name) {
            Some(tensor) => Ok((name.clone(), tensor.shallow_clone())),
            None => Err(Error::UnknownParameter { name: name.clone() }),
        };
        names.iter().map(find).collect()
    }

    fn release(&mut self) {}

    fn gather_all(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        self.blocks.values_mut().try_for_each(|block| block.start(ranks))?;
        self.blocks.values_mut().try_for_each(|block| block.bring(ranks))
    }

    fn all_params(&self) -> &Params {
        &self.compute
    }

    fn reset(&mut self) {
        let _guard = no_grad_guard();
        for block in self.blocks.values_mut() {
            match std::mem::replace(&mut block.sum, Sum::Open) {
                Sum::Running(_) | Sum::Failed => block.fresh_gradient(),
                Sum::Open | Sum::Done => drop(block.grad.zero_()),
            }
        }
    }

    fn accumulate(&mut self, name: &str, gradient: &Tensor) {
        let _guard = no_grad_guard();
        if let Some(view) = self.block_of(name).and_then(|block| block.grad_views.get_mut(name)) {
            let _ = view.g_add_(gradient);
        }
    }

    fn reduce_above(
        &mut self,
        last_open: Option<BlockId>,
        last: bool,
        ranks: &Ranks<'_>,
    ) -> Result<(), Error> {
        if !last {
            return Ok(());
        }
        for (_, block) in self.blocks.iter_mut().rev().take_while(|(id, _)| Some(**id) > last_open) {
            if matches!(block.sum, Sum::Open) {
                let work = ranks.group.reduce_scatter_base(&block.shard.grad, &block.grad, ReduceOp::Sum)?;
                block.sum = Sum::Running(work);
            }
        }
        Ok(())
    }

    fn finish(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        let _guard = no_grad_guard();
        for (id, block) in self.blocks.iter_mut().rev() {
            match std::mem::replace(&mut block.sum, Sum::Failed) {
                Sum::Running(work) => work.wait(ranks.deadline)?,
                Sum::Done => {}
                Sum::Open | Sum::Failed => return Err(Error::NotReduced { block: *id }),
            }
            block.sum = Sum::Done;
        }
        let own = self.blocks.values().map(|block| square_sum(&block.shard.grad)).sum();
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
        for block in self.blocks.values_mut() {
            block.shard.apply(&adamw, factor);
            block.weights = Weights::Stale;
        }
    }

    fn digest(&mut self) -> String {
        if self.frozen_digests.is_none() {
            self.frozen_digests = Some(self.frozen_pieces().map(|piece| digest(&piece)).collect());
        }
        let mut digests = self.frozen_digests.clone().unwrap_or_default();
        digests.extend(self.blocks.values().flat_map(|block| block.shard.digests()));
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
        for name in &self.frozen {
            take(name, self.compute.get(name).shallow_clone())?;
        }
        for block in self.blocks.values() {
            let mut gather = Gather::start(&block.shard.master, Kind::Float, ranks.group)?;
            let flat = gather.ready(ranks)?;
            block.shard.cut.views(flat).try_for_each(|(name, weight)| take(&name, weight))?;
        }
        Ok(())
    }

    fn pieces(&self) -> Vec<Piece> {
        self.frozen_pieces().chain(self.blocks.values().flat_map(|block| block.shard.pieces())).collect()
    }

    fn slices(&self) -> Slices {
        Slices {
            trained: self.blocks.values().map(|block| block.shard.slice()).collect(),
            frozen: Vec::new(),
            shared: self.frozen_pieces().map(|piece| piece.values).collect(),
        }
    }

    fn steps(&self) -> u64 {
        self.step
    }

    fn refresh(&mut self, steps: u64) {
        let _guard = no_grad_guard();
        self.step = steps;
        self.frozen_digests = None;
        for block in self.blocks.values_mut() {
            block.shard.refresh();
            block.weights = Weights::Stale;
        }
    }
}
