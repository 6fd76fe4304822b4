//! The language model's layers (transformers' `Qwen2_5_VLDecoderLayer`).

use tch::{Device, Kind, Tensor};

use crate::config::TextConfig;
use crate::ops::{Rotation, gated, inverse_frequencies, project, rms_norm, rotate};
use crate::params::Params;

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
    /// Query, key, value weights and biases; one pair when fused.
    qkv: Vec<(Tensor, Tensor)>,
    output: Tensor,
    post_norm: Tensor,
    /// Gate and up weights; one when fused.
    gate_up: Vec<Tensor>,
    down: Tensor,
    eps: f64,
    heads: i64,
    kv_heads: i64,
    head: i64,
}

impl Layer {
    /// Layer `index` of `params`.
    pub(crate) fn of(params: &Params, index: i64, config: &TextConfig) -> Self {
        let get = |name: &str| params.get(&format!("model.layers.{index}.{name}")).shallow_clone();
        let biased =
            |name: &str| (get(&format!("self_attn.{name}.weight")), get(&format!("self_attn.{name}.bias")));
        Self {
            input_norm: get("input_layernorm.weight"),
            qkv: ["q_proj", "k_proj", "v_proj"].map(biased).into(),
            output: get("self_attn.o_proj.weight"),
            post_norm: get("post_attention_layernorm.weight"),
            gate_up: vec![get("mlp.gate_proj.weight"), get("mlp.up_proj.weight")],
            down: get("mlp.down_proj.weight"),
            eps: config.norm_eps,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head: config.head_dim(),
        }
    }

    /// The same layer with one matrix for queries, keys and values and one for gate and up: fewer, larger products
    /// for the few rows of a decoding step.
    pub(crate) fn fused(self) -> Self {
        let (weights, biases): (Vec<Tensor>, Vec<Tensor>) = self.qkv.into_iter().unzip();
        let qkv = vec![(Tensor::cat(&weights, 0), Tensor::cat(&biases, 0))];
        Self { qkv, gate_up: vec![Tensor::cat(&self.gate_up, 0)], ..self }
    }

    /// The layer over `x` `[tokens, hidden]`; `attend` makes `[tokens, heads · head]` of queries, keys and values, which
    /// are not yet rotated.
    pub(crate) fn forward(&self, x: &Tensor, attend: impl FnOnce(Qkv) -> Tensor) -> Tensor {
        let normed = rms_norm(x, &self.input_norm, self.eps);
        let x = x + project(&attend(self.qkv(&normed)), &self.output);
        let normed = rms_norm(&x, &self.post_norm, self.eps);
        x + project(&self.gated(&normed), &self.down)
    }

    fn qkv(&self, normed: &Tensor) -> Qkv {
        let heads = |x: &Tensor| x.view([-1, x.size()[1] / self.head, self.head]);
        let parts: Vec<Tensor> = self.qkv.iter().map(|(w, b)| heads(&normed.linear(w, Some(b)))).collect();
        if let [q, k, v] = parts.as_slice() {
            return Qkv { q: q.shallow_clone(), k: k.shallow_clone(), v: v.shallow_clone() };
        }
        let kinds = [self.heads, self.kv_heads, self.kv_heads];
        let [q, k, v] = &parts[0].split_with_sizes(kinds, 1)[..] else { unreachable!("three kinds") };
        Qkv { q: q.shallow_clone(), k: k.shallow_clone(), v: v.shallow_clone() }
    }

    fn gated(&self, normed: &Tensor) -> Tensor {
        if let [gate, up] = self.gate_up.as_slice() {
            return gated(&project(normed, gate), &project(normed, up));
        }
        let both = project(normed, &self.gate_up[0]).chunk(2, -1);
        gated(&both[0], &both[1])
    }
}
