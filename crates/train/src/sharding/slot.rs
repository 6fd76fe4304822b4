//! One block's flat buffers.

use std::collections::BTreeMap;

use model::Params;
use tch::{Device, Kind, Tensor};

use crate::adamw::{AdamW, Buffers};
use crate::blocks::Block;

/// Flat buffers of a trained block, all `[block.len]`; gaps between parameters stay 0.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) block: Block,
    /// f32.
    pub(super) master: Tensor,
    /// f32.
    pub(super) exp_avg: Tensor,
    /// f32.
    pub(super) exp_avg_sq: Tensor,
    /// f32, summed over micro-batches, then over ranks.
    pub(super) grad: Tensor,
    /// In compute type; the master itself where that is f32.
    compute: Tensor,
    grad_views: BTreeMap<String, Tensor>,
}

impl Slot {
    /// Takes the block's weights out of `weights` and lays them out, with moments and gradients of 0.
    pub(super) fn new(block: Block, weights: &Params, kind: Kind, device: Device) -> Self {
        let flat = || Tensor::zeros([block.len], (Kind::Float, device));
        let master = flat();
        for entry in &block.entries {
            entry.view(&master).copy_(&weights.get(&entry.name).detach());
        }
        let compute = if kind == Kind::Float { master.shallow_clone() } else { master.to_kind(kind) };
        let mut slot = Self {
            exp_avg: flat(),
            exp_avg_sq: flat(),
            grad: flat(),
            grad_views: BTreeMap::new(),
            block,
            master,
            compute,
        };
        slot.renew_gradient();
        slot
    }

    /// A gradient buffer of its own; whoever still writes to the old one does no harm.
    pub(super) fn renew_gradient(&mut self) {
        self.grad = self.grad.zeros_like();
        let views = self.block.entries.iter().map(|e| (e.name.clone(), e.view(&self.grad)));
        self.grad_views = views.collect();
    }

    /// Sets the gradient to 0.
    pub(super) fn zero_gradient(&mut self) {
        let _ = self.grad.zero_();
    }

    /// Adds a gradient in f32.
    pub(super) fn accumulate(&mut self, name: &str, gradient: &Tensor) {
        if let Some(view) = self.grad_views.get_mut(name) {
            let _ = view.g_add_(gradient);
        }
    }

    pub(super) fn gradient(&self, name: &str) -> Option<Tensor> {
        self.grad_views.get(name).map(Tensor::shallow_clone)
    }

    /// One optimizer step, and a fresh compute copy.
    pub(super) fn apply(&mut self, adamw: &AdamW, factor: f64) {
        let Self { master, exp_avg, exp_avg_sq, grad, .. } = self;
        adamw.apply(&Buffers { master, exp_avg, exp_avg_sq, grad }, factor);
        self.refresh();
    }

    /// Brings the compute copy up to the master.
    pub(super) fn refresh(&mut self) {
        if self.compute.kind() != Kind::Float {
            self.compute.copy_(&self.master);
        }
    }

    /// The buffers that going on needs, with the names that the state file gives them.
    pub(super) fn parts(&self) -> [(&'static str, &Tensor); 3] {
        [("master", &self.master), ("exp_avg", &self.exp_avg), ("exp_avg_sq", &self.exp_avg_sq)]
    }

    /// Views of the compute copy, by name.
    pub(super) fn compute_views(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.block.entries.iter().map(|e| (e.name.clone(), e.view(&self.compute)))
    }

    /// Views of one of the slot's f32 buffers, by name.
    pub(super) fn views<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (&'a str, Tensor)> {
        self.block.entries.iter().map(move |e| (e.name.as_str(), e.view(flat)))
    }
}
