//! The language model's layers (transformers' `Qwen2_5_VLDecoderLayer`).

use tch::{Device, Kind, Tensor};

use crate::config::TextConfig;
use crate::linear::{Linear, Parts};
use crate::ops::{Rotation, gated, inverse_frequencies, rms_norm, rotate};

/// Rotations for positions `[3, tokens]`: each frequency turns with the axis that its section belongs to.
pub(crate) fn rotation(positions: &Tensor, config: &TextConfig, kind: Kind) -> Rotation {
    let frequencies = inverse_frequencies(config.rope_theta, config.head_dim()).to_device(positions.device());
    let angles = positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies;
    let sections: Vec<Tensor> = angles
        .split_with_sizes(&config.mrope_section, -1)
        .iter()
        .enumerate()
        .map(|(section, angles)| angles.get(section as i64 % 3))
        .collect();
    Rotation::new(&Tensor::cat(&sections, -1), kind)
}

/// Angles `[positions, head / 2]` in f32 of text positions 0, 1, …, where all axes agree.
pub(crate) fn text_angles(positions: i64, config: &TextConfig, device: Device) -> Tensor {
    let frequencies = inverse_frequencies(config.rope_theta, config.head_dim()).to_device(device);
    Tensor::arange(positions, (Kind::Float, device)).unsqueeze(-1) * frequencies
}

/// Queries, keys and values of some tokens: `[tokens, heads, head]` each.
#[derive(Debug)]
pub(crate) struct Qkv {
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

impl Qkv {
    /// With queries and keys turned.
    pub(crate) fn rotated(&self, rotation: &Rotation) -> Self {
        Self { q: rotate(&self.q, rotation), k: rotate(&self.k, rotation), v: self.v.shallow_clone() }
    }
}

/// One layer's weights. In training they are the parameters themselves; [`Layer::fused`] joins those that take the
/// same input.
#[derive(Debug)]
pub(crate) struct Layer {
    input_norm: Tensor,
    /// Query, key, value; one when fused.
    qkv: Vec<Linear>,
    output: Linear,
    post_norm: Tensor,
    /// Gate and up; one when fused.
    gate_up: Vec<Linear>,
    down: Linear,
    eps: f64,
    heads: i64,
    kv_heads: i64,
    head: i64,
}

impl Layer {
    /// Layer `index` of `parts`.
    pub(crate) fn of(parts: &Parts<'_>, index: i64, config: &TextConfig) -> Self {
        let norm = |name: &str| parts.params.get(&format!("model.layers.{index}.{name}")).shallow_clone();
        let linear = |name: &str| parts.linear(&format!("model.layers.{index}.{name}"));
        Self {
            input_norm: norm("input_layernorm.weight"),
            qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(linear).into(),
            output: linear("self_attn.o_proj"),
            post_norm: norm("post_attention_layernorm.weight"),
            gate_up: ["mlp.gate_proj", "mlp.up_proj"].map(linear).into(),
            down: linear("mlp.down_proj"),
            eps: config.norm_eps,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head: config.head_dim(),
        }
    }

    /// The same layer with one matrix for queries, keys and values and one for gate and up: fewer, larger products
    /// for the few rows of a decoding step. What has adapters stays apart.
    pub(crate) fn fused(self) -> Self {
        let fuse = |parts: Vec<Linear>| Linear::joined(&parts).map_or(parts, |joined| vec![joined]);
        Self { qkv: fuse(self.qkv), gate_up: fuse(self.gate_up), ..self }
    }

    /// The layer over `x` `[tokens, hidden]`; `attend` makes `[tokens, heads · head]` of queries, keys and values, which
    /// are not yet rotated.
    pub(crate) fn forward(&self, x: &Tensor, attend: impl FnOnce(Qkv) -> Tensor) -> Tensor {
        let normed = rms_norm(x, &self.input_norm, self.eps);
        let x = x + self.output.apply(&attend(self.qkv(&normed)));
        let normed = rms_norm(&x, &self.post_norm, self.eps);
        x + self.down.apply(&self.gated(&normed))
    }

    fn qkv(&self, normed: &Tensor) -> Qkv {
        let heads = |x: &Tensor| x.view([-1, x.size()[1] / self.head, self.head]);
        let parts: Vec<Tensor> = self.qkv.iter().map(|part| heads(&part.apply(normed))).collect();
        if let [q, k, v] = parts.as_slice() {
            return Qkv { q: q.shallow_clone(), k: k.shallow_clone(), v: v.shallow_clone() };
        }
        let kinds = [self.heads, self.kv_heads, self.kv_heads];
        let [q, k, v] = &parts[0].split_with_sizes(kinds, 1)[..] else { unreachable!("three kinds") };
        Qkv { q: q.shallow_clone(), k: k.shallow_clone(), v: v.shallow_clone() }
    }

    fn gated(&self, normed: &Tensor) -> Tensor {
        if let [gate, up] = self.gate_up.as_slice() {
            return gated(&gate.apply(normed), &up.apply(normed));
        }
        let both = self.gate_up[0].apply(normed).chunk(2, -1);
        gated(&both[0], &both[1])
    }
}
