//! The decoder's layers for one token a row.

use tch::{Device, Kind, Tensor};

use super::attend::{Heads, Turns, attend};
use super::cohort::RowCohort;
use super::element::{Bf16, Element};
use super::gate::gated;
use super::norm::rms_norm;
use super::product::Product;
use crate::config::TextConfig;
use crate::linear::Parts;
use crate::names::EMBEDDING;
use crate::shim::{Packed, Then};
use crate::text::text_angles;

/// One layer's weights, packed.
#[derive(Debug)]
struct Layer {
    input_norm: Tensor,
    qkv: Product,
    output: Product,
    post_norm: Tensor,
    gate: Product,
    up: Product,
    down: Product,
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
    /// Packs `parts` for steps of about `rows` rows; `positions` bounds the positions that occur. `head` names the
    /// head's weight.
    pub(crate) fn new(parts: &Parts<'_>, config: &TextConfig, head: &str, rows: i64, positions: i64) -> Self {
        let params = parts.params;
        let angles = text_angles(positions, config, Device::Cpu);
        let embedding = params.get(EMBEDDING).detach();
        // Rounded as the model's own rotations are.
        let kind = embedding.kind();
        let table = |of: Tensor| {
            let rounded = of.to_kind(kind).to_kind(Kind::Float).flatten(0, -1);
            Vec::<f32>::try_from(rounded).unwrap_or_default()
        };
        Self {
            layers: (0..config.layers).map(|index| Layer::new(parts, index, rows)).collect(),
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
            let gated = layer.gated::<T>(&normed);
            x = layer.down.apply(&gated, Then::Plus(&x));
        }
        self.head.apply(&rms_norm::<T>(&x, &self.norm, self.eps), Then::Nothing)
    }
}

impl Layer {
    fn new(parts: &Parts<'_>, index: i64, rows: i64) -> Self {
        let norm = |name: &str| parts.params.get(&format!("model.layers.{index}.{name}")).detach();
        let linear = |name: &str| parts.linear(&format!("model.layers.{index}.{name}"));
        let packed = |name: &str| Product::new(&[linear(name)], rows);
        Self {
            input_norm: norm("input_layernorm.weight"),
            qkv: Product::new(&["q", "k", "v"].map(|part| linear(&format!("self_attn.{part}_proj"))), rows),
            output: packed("self_attn.o_proj"),
            post_norm: norm("post_attention_layernorm.weight"),
            gate: packed("mlp.gate_proj"),
            up: packed("mlp.up_proj"),
            down: packed("mlp.down_proj"),
        }
    }

    fn gated<T: Element>(&self, normed: &Tensor) -> Tensor {
        if self.gate.has_adapters() || self.up.has_adapters() {
            return gated::<T>(
                &self.gate.apply(normed, Then::Nothing),
                &self.up.apply(normed, Then::Nothing),
            );
        }
        self.up.apply(normed, Then::Times(&self.gate.apply(normed, Then::Silu)))
    }
}
