//! Linear maps, with the adapters that stand beside them under LoRA.

use tch::Tensor;

use crate::dropout::Dropout;
use crate::lora::{Adapters, names_of};
use crate::ops::project;
use crate::params::Params;

/// A link's weights, and how its adapters compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) params: &'a Params,
    pub(crate) adapters: &'a Adapters,
    /// Of a training pass.
    pub(crate) dropout: Option<&'a Dropout>,
}

impl Parts<'_> {
    /// The linear map of `module`, with its bias where it has one.
    pub(crate) fn linear(&self, module: &str) -> Linear {
        let weight = self.params.get(&format!("{module}.weight")).shallow_clone();
        // A filter over patches is a row.
        let weight = if weight.dim() > 2 { weight.flatten(1, -1) } else { weight };
        let bias = self.params.find(&format!("{module}.bias")).map(Tensor::shallow_clone);
        let adapter = self.adapters.holds(module).then(|| {
            let [a, b] = names_of(module).map(|name| self.params.get(&name).flatten(1, -1));
            let mask = self.dropout.map(|dropout| dropout.mask(module, a.size()[1], a.kind(), a.device()));
            Adapter { a, b, scale: self.adapters.scale(), mask }
        });
        Linear { weight, bias, adapter }
    }
}

/// y = W·x + b + scale · B·A·dropout(x).
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Tensor,
    /// `[out]`.
    pub(crate) bias: Option<Tensor>,
    pub(crate) adapter: Option<Adapter>,
}

/// scale · B·A·dropout(x).
#[derive(Debug)]
pub(crate) struct Adapter {
    /// `[rank, in]`.
    pub(crate) a: Tensor,
    /// `[out, rank]`.
    pub(crate) b: Tensor,
    pub(crate) scale: f64,
    /// `[rows, in]`.
    mask: Option<Tensor>,
}

impl Linear {
    /// The map of `x` `[rows, in]`, `[rows, out]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        let y = x.linear(&self.weight, self.bias.as_ref());
        match &self.adapter {
            None => y,
            Some(adapter) => y.addmm(&adapter.low(x), &adapter.b.tr()),
        }
    }

    /// One map of the outputs of several over the same input; without adapters.
    pub(crate) fn joined(parts: &[Self]) -> Option<Self> {
        if parts.iter().any(|part| part.adapter.is_some()) {
            return None;
        }
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Option<Vec<&Tensor>> = parts.iter().map(|part| part.bias.as_ref()).collect();
        let bias = biases.map(|biases| Tensor::cat(&biases, 0));
        Some(Self { weight: Tensor::cat(&weights, 0), bias, adapter: None })
    }
}

impl Adapter {
    /// scale · A·dropout(x), `[rows, rank]`.
    fn low(&self, x: &Tensor) -> Tensor {
        let low = match &self.mask {
            Some(mask) => project(&(x * mask), &self.a),
            None => project(x, &self.a),
        };
        // Here and not at B: the factor is a pass over the narrowest tensor.
        low * self.scale
    }
}
