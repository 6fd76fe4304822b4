//! `sharding: replicate`: every rank holds everything; gradients are summed, every rank takes the same step.

use std::collections::BTreeMap;

use collective::{ReduceOp, Work};
use model::Params;
use settings::Optimizer;
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::slot::Slot;
use super::{Piece, Place, Ranks, Sharding, Take};
use crate::Error;
use crate::adamw::AdamW;
use crate::blocks::{BlockId, layout};
use crate::norm::square_sum;
use crate::tensors::f32_bytes;

/// Where a block's sum over ranks stands.
#[derive(Debug)]
enum Reduction {
    Open,
    Running(Work),
    /// The buffer may still be written to.
    Failed,
    Done,
}

/// Every rank holds everything.
#[derive(Debug)]
pub(crate) struct Replicate {
    /// All parameters in compute type; views of the slots where trained.
    compute: Params,
    slots: BTreeMap<BlockId, Slot>,
    reductions: BTreeMap<BlockId, Reduction>,
    /// Digests of frozen parameters, which never change.
    frozen: BTreeMap<String, [u8; 32]>,
    step: u64,
}

impl Replicate {
    /// Lays `weights` (f32, all names) out for compute type `kind` on `device`; those for which `trains` holds
    /// get masters with fresh moments.
    ///
    /// # Errors
    /// If a trained name belongs to no block.
    pub(crate) fn new(
        weights: Params,
        trains: impl Fn(&str) -> bool,
        kind: Kind,
        device: Device,
    ) -> Result<Self, Error> {
        let _guard = no_grad_guard();
        let trained = weights.iter().filter(|(name, _)| trains(name));
        let blocks = layout(trained.map(|(name, tensor)| (name.as_str(), tensor.size())))?;
        let slots: BTreeMap<_, _> =
            blocks.into_iter().map(|(id, block)| (id, Slot::new(block, &weights, kind, device))).collect();
        let mut compute: Params = slots.values().flat_map(Slot::compute_views).collect();
        let mut frozen = BTreeMap::new();
        for (name, tensor) in weights {
            if compute.find(&name).is_none() {
                let tensor = tensor.detach().to_device(device).to_kind(kind);
                frozen.insert(name.clone(), digest(&name, &tensor));
                compute.insert(name, tensor);
            }
        }
        let reductions = slots.keys().map(|&id| (id, Reduction::Open)).collect();
        Ok(Self { compute, slots, reductions, frozen, step: 0 })
    }

    fn slot_of(&self, name: &str) -> Option<&Slot> {
        self.slots.get(&BlockId::of(name).ok()?)
    }
}

impl Sharding for Replicate {
    fn trains(&self, name: &str) -> bool {
        self.compute.find(name).is_some() && !self.frozen.contains_key(name)
    }

    fn has(&self, name: &str) -> bool {
        self.compute.find(name).is_some()
    }

    fn announce(&mut self, _: &[&[String]], _: &Ranks<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn params(&mut self, names: &[String], _: &Ranks<'_>) -> Result<Params, Error> {
        let find = |name: &String| match self.compute.find(name) {
            Some(tensor) => Ok((name.clone(), tensor.shallow_clone())),
            None => Err(Error::UnknownParameter { name: name.clone() }),
        };
        names.iter().map(find).collect()
    }

    fn release(&mut self) {}

    fn gather_all(&mut self, _: &Ranks<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn all_params(&self) -> &Params {
        &self.compute
    }

    fn reset(&mut self) {
        let _guard = no_grad_guard();
        for (id, slot) in &mut self.slots {
            match self.reductions.insert(*id, Reduction::Open) {
                Some(Reduction::Running(_) | Reduction::Failed) => slot.renew_gradient(),
                _ => slot.zero_gradient(),
            }
        }
    }

    fn accumulate(&mut self, name: &str, gradient: &Tensor) {
        let _guard = no_grad_guard();
        if let Ok(id) = BlockId::of(name)
            && let Some(slot) = self.slots.get_mut(&id)
        {
            debug_assert!(
                matches!(self.reductions.get(&id), Some(Reduction::Open)),
                "gradient of {name} after the reduction of {id} began"
            );
            slot.accumulate(name, gradient);
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
        for (id, slot) in self.slots.iter_mut().rev().take_while(|(id, _)| Some(**id) > last_open) {
            let reduction = self.reductions.entry(*id).or_insert(Reduction::Open);
            if matches!(reduction, Reduction::Open) {
                *reduction = Reduction::Running(ranks.group.all_reduce(&slot.grad, ReduceOp::Sum)?);
            }
        }
        Ok(())
    }

    fn finish(&mut self, ranks: &Ranks<'_>) -> Result<(), Error> {
        for (id, reduction) in self.reductions.iter_mut().rev() {
            match std::mem::replace(reduction, Reduction::Failed) {
                Reduction::Running(work) => work.wait(ranks.deadline)?,
                Reduction::Done => {}
                Reduction::Open | Reduction::Failed => return Err(Error::NotReduced { block: *id }),
            }
            *reduction = Reduction::Done;
        }
        Ok(())
    }

    fn norm(&self) -> f64 {
        let _guard = no_grad_guard();
        self.slots.values().map(|slot| square_sum(&slot.grad)).sum::<f64>().sqrt()
    }

    fn apply(&mut self, optimizer: &Optimizer, lr: f64, factor: f64) {
        let _guard = no_grad_guard();
        self.step += 1;
        let adamw = AdamW::at(optimizer, lr, self.step);
        for slot in self.slots.values_mut() {
            slot.apply(&adamw, factor);
        }
    }

    fn digest(&mut self) -> String {
        let mut digests = self.frozen.clone();
        for slot in self.slots.values() {
            let masters = slot.views(&slot.master);
            digests.extend(masters.map(|(name, master)| (name.to_owned(), digest(name, &master))));
        }
        checkpoint::weights_digest(digests.values())
    }

    fn gradient(&self, name: &str) -> Option<Tensor> {
        self.slot_of(name)?.gradient(name)
    }

    fn part(&self) -> Place {
        Place::ALONE
    }

    fn each_weight(&mut self, _: &Ranks<'_>, take: &mut Take<'_>) -> Result<(), Error> {
        for name in self.frozen.keys() {
            take(name, self.compute.get(name).shallow_clone())?;
        }
        for slot in self.slots.values() {
            slot.views(&slot.master).try_for_each(|(name, master)| take(name, master))?;
        }
        Ok(())
    }

    fn pieces(&self) -> Vec<Piece> {
        let piece = |part: &str, name: &str, values: Tensor| Piece {
            name: format!("{part}.{name}"),
            shape: values.size(),
            start: 0,
            values: values.view([-1]),
            shared: true,
        };
        let frozen = self.frozen.keys();
        let mut pieces: Vec<_> =
            frozen.map(|name| piece("frozen", name, self.compute.get(name).shallow_clone())).collect();
        for slot in self.slots.values() {
            for (part, flat) in slot.parts() {
                pieces.extend(slot.views(flat).map(|(name, view)| piece(part, name, view)));
            }
        }
        pieces
    }

    fn steps(&self) -> u64 {
        self.step
    }

    fn refresh(&mut self, steps: u64) {
        let _guard = no_grad_guard();
        for (name, known) in &mut self.frozen {
            *known = digest(name, self.compute.get(name));
        }
        self.step = steps;
        self.slots.values_mut().for_each(Slot::refresh);
    }
}

fn digest(name: &str, tensor: &Tensor) -> [u8; 32] {
    checkpoint::tensor_digest(name, &tensor.size(), &f32_bytes(tensor))
}
