//! The language model as rollouts use it: prompts at once, then a token a row.

use tch::{Device, Kind, Tensor};

use crate::cache::Cache;
use crate::cohort::Cohort;
use crate::cpu::{RowCohort, Stack};
use crate::generate::Request;
use crate::linear::Parts;
use crate::names::EMBEDDING;
use crate::ops::{Rotation, project};
use crate::packed::{Packed, PackedSample};
use crate::params::Params;
use crate::qwen::Qwen;
use crate::text::{Layer, Qkv, rotation, text_angles};
use crate::tower::{VisionBatch, pixel_values};

/// A model's weights, laid out for decoding.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    qwen: &'a Qwen,
    /// In compute type.
    params: Params,
    layers: Vec<Layer>,
    steps: Steps,
}

/// How a token a row is computed.
#[derive(Debug)]
enum Steps {
    /// By tensor operations, on any device, with the rotations of all text positions that can occur.
    Tensors(Rotation),
    /// By what is made for the CPU.
    Cpu(Stack),
}

/// Keys and values by layer, then by sample, `[tokens, kv heads, head]`.
type Prompts = Vec<Vec<(Tensor, Tensor)>>;

impl<'a> Decoder<'a> {
    /// For steps of about `rows` rows; `positions` bounds the positions that occur.
    pub(crate) fn new(qwen: &'a Qwen, params: &Params, rows: usize, positions: i64) -> Self {
        if qwen.device != Device::Cpu || !matches!(qwen.kind, Kind::Float | Kind::BFloat16) {
            return Self::of_tensors(qwen, params, positions);
        }
        let text = &qwen.config.text;
        let params = params.as_kind(qwen.kind);
        let parts = Parts { params: &params, adapters: &qwen.adapters, dropout: None };
        let stack = Stack::new(&parts, text, qwen.head_name(), rows as i64, positions);
        let layers = (0..text.layers).map(|index| Layer::of(&parts, index, text)).collect();
        Self { qwen, params, layers, steps: Steps::Cpu(stack) }
    }

    /// As [`Self::new`], by tensor operations whatever the device. Joins weights that take the same input.
    pub(crate) fn of_tensors(qwen: &'a Qwen, params: &Params, positions: i64) -> Self {
        let text = &qwen.config.text;
        let table = Rotation::new(&text_angles(positions, text, qwen.device), qwen.kind);
        let params = params.as_kind(qwen.kind);
        let parts = Parts { params: &params, adapters: &qwen.adapters, dropout: None };
        let layers = (0..text.layers).map(|index| Layer::of(&parts, index, text).fused()).collect();
        Self { qwen, params, layers, steps: Steps::Tensors(table) }
    }

    /// The cache of `responses` a sample with room for `capacity` own tokens each.
    pub(crate) fn cache(&self, prompts: Prompts, responses: i64, capacity: i64) -> Cache {
        match self.steps {
            Steps::Tensors(_) => Cache::Tensors(Cohort::new(prompts, responses, capacity)),
            Steps::Cpu(_) => Cache::Cpu(RowCohort::new(prompts, responses, capacity)),
        }
    }

    pub(crate) fn device(&self) -> Device {
        self.qwen.device
    }

    pub(crate) fn vocabulary(&self) -> i64 {
        self.qwen.config.text.vocab
    }

    /// Longest sequence, tokens.
    pub(crate) fn context(&self) -> usize {
        self.qwen.config.text.max_positions as usize
    }

    /// Logits after each prompt, `[samples, vocabulary]`, and the prompts' keys and values.
    pub(crate) fn prefill(&self, requests: &[&Request<'_>]) -> (Tensor, Prompts) {
        let qwen = self.qwen;
        let grids = requests.iter().flat_map(|r| r.prompt.grids.iter().copied()).collect();
        let pictures: Vec<_> = requests.iter().flat_map(|r| r.pictures.iter().copied()).collect();
        let pixels = pixel_values(&pictures, qwen.config.vision.patch_values(), qwen.kind, qwen.device);
        let images = qwen.encode(&self.params, &VisionBatch { grids }, &pixels);
        let samples: Vec<PackedSample<'_>> =
            requests.iter().map(|r| PackedSample { prompt: r.prompt, completions: Vec::new() }).collect();
        let packed = Packed::new(&samples, qwen.kind, qwen.device);
        let lengths: Vec<i64> = packed.segments.iter().map(|s| s.prompt.len() as i64).collect();
        let turn = rotation(&packed.positions, &qwen.config.text, qwen.kind);
        let mut x = qwen.embed(&self.params, &packed.ids, &packed.image_slots, &images);
        let mut prompts = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            x = layer.forward(&x, |qkv| {
                let Qkv { q, k, v } = qkv.rotated(&turn);
                let keys = k.split_with_sizes(&lengths, 0);
                prompts.push(keys.into_iter().zip(v.split_with_sizes(&lengths, 0)).collect());
                packed.plan.attend_rotated(&q, &k, &v)
            });
        }
        (self.logits(&x.index_select(0, &packed.prompt_ends())), prompts)
    }

    /// Logits after one more token a row, `[rows, vocabulary]`; the rows are those of `caches`, in order.
    pub(crate) fn step(&self, tokens: &Tensor, positions: &Tensor, caches: &[&Cache]) -> Tensor {
        match &self.steps {
            Steps::Cpu(stack) => {
                let cohorts: Vec<&RowCohort> = caches.iter().filter_map(|cache| cache.cpu()).collect();
                stack.step(tokens, positions, &cohorts)
            }
            Steps::Tensors(table) => {
                let cohorts: Vec<&Cohort> = caches.iter().filter_map(|cache| cache.tensors()).collect();
                self.step_of_tensors(table, tokens, positions, &cohorts)
            }
        }
    }

    fn step_of_tensors(
        &self,
        table: &Rotation,
        tokens: &Tensor,
        positions: &Tensor,
        cohorts: &[&Cohort],
    ) -> Tensor {
        let pick = |table: &Tensor| table.index_select(0, positions);
        let turn = Rotation { cos: pick(&table.cos), sin: pick(&table.sin) };
        let rows: Vec<i64> = cohorts.iter().map(|cohort| cohort.rows()).collect();
        let mut x = self.params.get(EMBEDDING).index_select(0, tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, |qkv| attend(index, &qkv.rotated(&turn), cohorts, &rows));
        }
        self.logits(&x)
    }

    fn logits(&self, x: &Tensor) -> Tensor {
        let normed = self.qwen.final_norm(&self.params, x);
        project(&normed, self.params.get(self.qwen.head_name()))
    }
}

fn attend(layer: usize, qkv: &Qkv, cohorts: &[&Cohort], rows: &[i64]) -> Tensor {
    if let [only] = cohorts {
        return only.attend(layer, qkv);
    }
    let [q, k, v] = [&qkv.q, &qkv.k, &qkv.v].map(|x| x.split_with_sizes(rows, 0));
    let parts: Vec<Tensor> = cohorts
        .iter()
        .zip(q.into_iter().zip(k).zip(v))
        .map(|(cohort, ((q, k), v))| cohort.attend(layer, &Qkv { q, k, v }))
        .collect();
    Tensor::cat(&parts, 0)
}
