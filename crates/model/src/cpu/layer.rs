//! The decoder's layers for one token a row.

use tch::{Device, Kind, Tensor};

use super::attend::{Heads, Turns, attend};
use super::cohort::RowCohort;
use super::element::{Bf16, Element};
use super::norm::rms_norm;
use crate::config::TextConfig;
use crate::names::EMBEDDING;
use crate::params::Params;
use crate::shim::{Packed, Then};
use crate::text::text_angles;

/// One layer's weights, packed.
#[derive(Debug)]
struct Layer {
    input_norm: Tensor,
    qkv: Packed,
    output: Packed,
    post_norm: Tensor,
    gate: Packed,
    up: Packed,
    down: Packed,
}

/// All that a decoding step computes with, in f32 or bf16.
#[derive(Debug)]
pub(crate) struct Stack {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Packed,
    heads: Heads,
    turns: Turns,
    eps: f64,
}

impl Stack {
    /// Packs `params` for steps of about `rows` rows; `positions` bounds the positions that occur. `head` names the
    /// head's weight.
    pub(crate) fn new(params: &Params, config: &TextConfig, head: &str, rows: i64, positions: i64) -> Self {
        let angles = text_angles(positions, config, Device::Cpu);
        let embedding = params.get(EMBEDDING).detach();
        // Rounded as the model's own rotations are.
        let kind = embedding.kind();
        let table = |of: Tensor| {
            let rounded = of.to_kind(kind).to_kind(Kind::Float).flatten(0, -1);
            Vec::<f32>::try_from(rounded).unwrap_or_default()
        };
        Self {
            layers: (0..config.layers).map(|index| Layer::new(params, index, rows)).collect(),
            norm: params.get("model.norm.weight").detach(),
            head: Packed::new(params.get(head), None, rows),
            heads: Heads {
                query: config.heads as usize,
                key: config.kv_heads as usize,
                width: config.head_dim() as usize,
            },
            turns: Turns { cos: table(angles.cos()), sin: table(angles.sin()) },
            eps: config.norm_eps,
            embedding,
        }
    }

    /// Logits `[rows, vocabulary]` after one more token a row; the rows are those of `cohorts`, in order.
    pub(crate) fn step(&self, tokens: &Tensor, positions: &Tensor, cohorts: &[&RowCohort]) -> Tensor {
        match self.embedding.kind() {
            Kind::BFloat16 => self.run::<Bf16>(tokens, positions, cohorts),
            _ => self.run::<f32>(tokens, positions, cohorts),
        }
    }

    fn run<T: Element>(&self, tokens: &Tensor, positions: &Tensor, cohorts: &[&RowCohort]) -> Tensor {
        let positions = Vec::<i64>::try_from(positions).unwrap_or_default();
        let mut x = self.embedding.index_select(0, tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = layer.qkv.apply(&rms_norm::<T>(&x, &layer.input_norm, self.eps), Then::Nothing);
            let attended = attend::<T>(&qkv, &positions, &self.turns, self.heads, index, cohorts);
            x = layer.output.apply(&attended, Then::Plus(&x));
            let normed = rms_norm::<T>(&x, &layer.post_norm, self.eps);
            let gated = layer.up.apply(&normed, Then::Times(&layer.gate.apply(&normed, Then::Silu)));
            x = layer.down.apply(&gated, Then::Plus(&x));
        }
        self.head.apply(&rms_norm::<T>(&x, &self.norm, self.eps), Then::Nothing)
    }
}

impl Layer {
    fn new(params: &Params, index: i64, rows: i64) -> Self {
        let get = |name: &str| params.get(&format!("model.layers.{index}.{name}"));
        let joined = |what: &str| {
            let parts = ["q", "k", "v"].map(|part| get(&format!("self_attn.{part}_proj.{what}")));
            Tensor::cat(&parts, 0)
        };
        let packed = |name: &str| Packed::new(get(&format!("{name}.weight")), None, rows);
        Self {
            input_norm: get("input_layernorm.weight").detach(),
            qkv: Packed::new(&joined("weight"), Some(&joined("bias")), rows),
            output: packed("self_attn.o_proj"),
            post_norm: get("post_attention_layernorm.weight").detach(),
            gate: packed("mlp.gate_proj"),
            up: packed("mlp.up_proj"),
            down: packed("mlp.down_proj"),
        }
    }
}
