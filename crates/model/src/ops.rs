//! The pieces that vision tower and language model share.

use std::marker::PhantomData;

use tch::{Device, Kind, Tensor};

use crate::cpu::{self, Bf16, Element};
use crate::derivative::{Function, apply};
use crate::shim;

/// RMS norm over the last dimension: the mean square in f32, then scaled in the input's type (transformers'
/// `Qwen2_5_VLRMSNorm`).
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    match x.kind() {
        _ if x.device() != Device::Cpu || weight.kind() != x.kind() => rms_norm_of_tensors(x, weight, eps),
        Kind::Float => apply(Norm::<f32> { eps, of: PhantomData }, &[&x.contiguous(), &weight.contiguous()]),
        Kind::BFloat16 => {
            apply(Norm::<Bf16> { eps, of: PhantomData }, &[&x.contiguous(), &weight.contiguous()])
        }
        _ => rms_norm_of_tensors(x, weight, eps),
    }
}

/// As [`rms_norm`], by tensor operations, on any device.
pub(crate) fn rms_norm_of_tensors(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let wide = x.to_kind(Kind::Float);
    let scale = (wide.square().mean_dim([-1_i64].as_slice(), true, Kind::Float) + eps).rsqrt();
    (wide * scale).to_kind(x.kind()) * weight
}

struct Norm<T> {
    eps: f64,
    of: PhantomData<T>,
}

impl<T: Element> Function for Norm<T> {
    fn forward(&self, inputs: &[&Tensor]) -> (Tensor, Vec<Tensor>) {
        let y = cpu::rms_norm::<T>(inputs[0], inputs[1], self.eps);
        (y, inputs.iter().map(|input| input.shallow_clone()).collect())
    }

    fn backward(&self, saved: &[Tensor], gradient: &Tensor) -> Vec<Tensor> {
        let (x, weight) = cpu::rms_norm_backward::<T>(&saved[0], &saved[1], self.eps, &gradient.contiguous());
        vec![x, weight]
    }
}

/// `silu(gate) · up`.
pub(crate) fn gated(gate: &Tensor, up: &Tensor) -> Tensor {
    match gate.kind() {
        _ if gate.device() != Device::Cpu => gate.silu() * up,
        Kind::Float => apply(Gate::<f32>(PhantomData), &[&gate.contiguous(), &up.contiguous()]),
        Kind::BFloat16 => apply(Gate::<Bf16>(PhantomData), &[&gate.contiguous(), &up.contiguous()]),
        _ => gate.silu() * up,
    }
}

struct Gate<T>(PhantomData<T>);

impl<T: Element> Function for Gate<T> {
    fn forward(&self, inputs: &[&Tensor]) -> (Tensor, Vec<Tensor>) {
        let y = cpu::gated::<T>(inputs[0], inputs[1]);
        (y, inputs.iter().map(|input| input.shallow_clone()).collect())
    }

    fn backward(&self, saved: &[Tensor], gradient: &Tensor) -> Vec<Tensor> {
        let (gate, up) = cpu::gated_backward::<T>(&saved[0], &saved[1], &gradient.contiguous());
        vec![gate, up]
    }
}

/// Backward from `value`, given its gradient, into the leaves' gradients.
pub fn backward(value: &Tensor, gradient: &Tensor) {
    shim::backward(value, gradient);
}

/// Cosines and signed sines `[tokens, 1, head]` of the rotary embedding, ready for [`rotate`].
#[derive(Debug)]
pub(crate) struct Rotation {
    pub(crate) cos: Tensor,
    /// Negative in the first half of a head, which takes the second half's values.
    pub(crate) sin: Tensor,
}

impl Rotation {
    /// From angles `[tokens, head / 2]` in f32.
    pub(crate) fn new(angles: &Tensor, kind: Kind) -> Self {
        let (cos, sin) = (angles.cos(), angles.sin());
        let table =
            |first: Tensor, second: &Tensor| Tensor::cat(&[&first, second], -1).unsqueeze(1).to_kind(kind);
        Self { cos: table(cos.shallow_clone(), &cos), sin: table(-&sin, &sin) }
    }
}

/// Turns the halves of every head of `x` `[tokens, heads, head]` into each other.
pub(crate) fn rotate(x: &Tensor, by: &Rotation) -> Tensor {
    let half = x.size()[x.dim() - 1] / 2;
    (x * &by.cos).addcmul(&x.roll([half].as_slice(), [-1_i64].as_slice()), &by.sin)
}

/// Rotary frequencies `[dim / 2]` in f32: θ^(−2i / dim).
pub(crate) fn inverse_frequencies(theta: f64, dim: i64) -> Tensor {
    let exponents = Tensor::arange_start_step(0, dim, 2, (Kind::Float, Device::Cpu)) / dim as f64;
    Tensor::from(theta as f32).pow(&exponents).reciprocal()
}

/// `x · weightᵀ` without a bias.
pub(crate) fn project(x: &Tensor, weight: &Tensor) -> Tensor {
    x.linear::<&Tensor>(weight, None)
}

/// Attention over `[batch, heads, tokens, head]` with the softmax in f32; `mask` is added to the scores.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, None::<f64>, false)
}

/// As [`attention`], with the logarithm of each query's sum of exponentials beside it (`[batch, heads, queries]`,
/// f32), so that attention over several sets of keys can be put together. No gradients.
pub(crate) fn attention_parts(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> (Tensor, Tensor) {
    if q.device() == Device::Cpu {
        return Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            q,
            k,
            v,
            0.0,
            false,
            mask,
            None::<f64>,
        );
    }
    let scale = 1.0 / (q.size()[q.dim() - 1] as f64).sqrt();
    let mut scores = q.matmul(&k.transpose(-2, -1)).to_kind(Kind::Float) * scale;
    if let Some(mask) = mask {
        scores += mask;
    }
    let out = scores.softmax(-1, Kind::Float).to_kind(v.kind()).matmul(v);
    (out, scores.logsumexp([-1_i64].as_slice(), false))
}
