//! Responses that decode together: the keys and values of their prompts, held once a sample, and their own.
//!
//! Responses live in a grid of slots, samples × responses; the rows of a decoding step are the slots still alive.
//! Attention runs over the grid (the responses of a sample are one longer query against its prompt), everything else
//! over the rows. The grid is repacked when a quarter of it has finished.

use tch::{Device, Kind, Tensor};

use crate::ops::attention_parts;
use crate::text::Qkv;

/// Keys and values of one layer.
#[derive(Debug)]
struct LayerCache {
    /// Of the prompts, `[samples, kv heads, longest prompt, head]`.
    prompt_k: Tensor,
    prompt_v: Tensor,
    /// Of the responses, `[slots, kv heads, capacity, head]`.
    own_k: Tensor,
    own_v: Tensor,
}

/// A cohort's caches and its grid.
#[derive(Debug)]
pub(crate) struct Cohort {
    layers: Vec<LayerCache>,
    /// Added to the scores of prompts shorter than the longest, `[samples, 1, 1, longest]`.
    mask: Option<Tensor>,
    samples: i64,
    responses: i64,
    /// Slot of each row, ascending.
    slots: Vec<i64>,
    /// The same on the device; absent where every slot is a row.
    slot_index: Option<Tensor>,
    /// Own tokens in the cache.
    filled: i64,
    device: Device,
}

impl Cohort {
    /// A cohort of `responses` a sample with room for `capacity` own tokens each. `prompts` are keys and values by
    /// layer, then by sample, `[tokens, kv heads, head]`.
    pub(crate) fn new(prompts: Vec<Vec<(Tensor, Tensor)>>, responses: i64, capacity: i64) -> Self {
        let first = prompts.first().map(Vec::as_slice).unwrap_or_default();
        let lengths: Vec<i64> = first.iter().map(|(k, _)| k.size()[0]).collect();
        let (kind, device) =
            first.first().map_or((Kind::Float, Device::Cpu), |(k, _)| (k.kind(), k.device()));
        let samples = lengths.len() as i64;
        let layers = prompts
            .into_iter()
            .map(|of_samples| {
                let (k, v): (Vec<Tensor>, Vec<Tensor>) = of_samples.into_iter().unzip();
                let [prompt_k, prompt_v] =
                    [k, v].map(|x| Tensor::pad_sequence(&x, true, 0.0, "right").transpose(1, 2).contiguous());
                let (_, heads, _, head) = prompt_k.size4().unwrap_or_default();
                let own = || Tensor::empty([samples * responses, heads, capacity, head], (kind, device));
                LayerCache { own_k: own(), own_v: own(), prompt_k, prompt_v }
            })
            .collect();
        Self {
            layers,
            mask: padding_mask(&lengths, kind, device),
            samples,
            responses,
            slots: (0..samples * responses).collect(),
            slot_index: None,
            filled: 0,
            device,
        }
    }

    /// Responses still alive.
    pub(crate) fn rows(&self) -> i64 {
        self.slots.len() as i64
    }

    /// Own tokens that each response has in the cache.
    pub(crate) fn filled(&self) -> i64 {
        self.filled
    }

    /// Begins a step: its keys and values go behind those of the step before.
    pub(crate) fn advance(&mut self) {
        self.filled += 1;
    }

    /// Stores the rows' keys and values in `layer` and attends, giving `[rows, heads · head]`.
    pub(crate) fn attend(&self, layer: usize, rows: &Qkv) -> Tensor {
        let cache = &self.layers[layer];
        let (_, heads, head) = rows.q.size3().unwrap_or_default();
        let kv_heads = rows.k.size()[1];
        let shared = heads / kv_heads;
        self.store(&cache.own_k, &rows.k);
        self.store(&cache.own_v, &rows.v);
        let slots = self.samples * self.responses;
        let q = self.to_grid(&rows.q);
        let to_prompt = q
            .view([self.samples, self.responses, kv_heads, shared, head])
            .transpose(1, 2)
            .reshape([self.samples, kv_heads, self.responses * shared, head]);
        let (prompt_out, prompt_mass) =
            attention_parts(&to_prompt, &cache.prompt_k, &cache.prompt_v, self.mask.as_ref());
        let own = |x: &Tensor| x.narrow(2, 0, self.filled);
        let to_own = q.view([slots, kv_heads, shared, head]);
        let (own_out, own_mass) = attention_parts(&to_own, &own(&cache.own_k), &own(&cache.own_v), None);
        let by_slot = |x: &Tensor, width: i64| {
            x.reshape([self.samples, kv_heads, self.responses, shared * width])
                .transpose(1, 2)
                .reshape([slots, heads, width])
        };
        // Softmax over both parts: each weighs as the sum of its exponentials.
        let share =
            (by_slot(&prompt_mass, 1) - own_mass.reshape([slots, heads, 1])).sigmoid().to_kind(q.kind());
        let own_out = own_out.reshape([slots, heads, head]);
        let out = &own_out + (by_slot(&prompt_out, head) - &own_out) * share;
        let out = out.view([slots, heads * head]);
        match &self.slot_index {
            Some(index) => out.index_select(0, index),
            None => out,
        }
    }

    fn store(&self, cache: &Tensor, rows: &Tensor) {
        let mut place = cache.select(2, self.filled - 1);
        match &self.slot_index {
            Some(index) => drop(place.index_copy_(0, index, rows)),
            None => place.copy_(rows),
        }
    }

    fn to_grid(&self, rows: &Tensor) -> Tensor {
        let Some(index) = &self.slot_index else { return rows.contiguous() };
        let (_, heads, head) = rows.size3().unwrap_or_default();
        let grid = Tensor::zeros([self.samples * self.responses, heads, head], (rows.kind(), rows.device()));
        grid.index_copy(0, index, rows)
    }

    /// Keeps the rows whose flag is true.
    pub(crate) fn keep(&mut self, alive: &[bool]) {
        let kept = self.slots.iter().zip(alive).filter(|(_, alive)| **alive).map(|(&slot, _)| slot);
        self.slots = kept.collect();
        let grid = self.samples * self.responses;
        if self.rows() * 4 <= grid * 3 {
            self.repack();
        }
        let whole = self.rows() == self.samples * self.responses;
        self.slot_index = (!whole).then(|| Tensor::from_slice(&self.slots).to_device(self.device));
    }

    /// Moves the living into the smallest grid that holds them.
    fn repack(&mut self) {
        let mut by_sample: Vec<(i64, Vec<i64>)> = Vec::new();
        for &slot in &self.slots {
            let sample = slot / self.responses;
            match by_sample.last_mut() {
                Some((last, slots)) if *last == sample => slots.push(slot),
                _ => by_sample.push((sample, vec![slot])),
            }
        }
        let (samples, responses) = (
            by_sample.len() as i64,
            by_sample.iter().map(|(_, slots)| slots.len()).max().unwrap_or(0) as i64,
        );
        if samples * responses >= self.samples * self.responses {
            return;
        }
        // A sample with fewer responses than the grid is wide fills up with copies of its first: nobody reads them.
        let from: Vec<i64> = by_sample
            .iter()
            .flat_map(|(_, slots)| (0..responses as usize).map(|i| slots.get(i).copied().unwrap_or(slots[0])))
            .collect();
        let from = Tensor::from_slice(&from).to_device(self.device);
        let kept: Vec<i64> = by_sample.iter().map(|(sample, _)| *sample).collect();
        let kept = (samples < self.samples).then(|| Tensor::from_slice(&kept).to_device(self.device));
        for layer in &mut self.layers {
            layer.own_k = layer.own_k.index_select(0, &from);
            layer.own_v = layer.own_v.index_select(0, &from);
            if let Some(kept) = &kept {
                layer.prompt_k = layer.prompt_k.index_select(0, kept);
                layer.prompt_v = layer.prompt_v.index_select(0, kept);
            }
        }
        if let (Some(mask), Some(kept)) = (&self.mask, &kept) {
            self.mask = Some(mask.index_select(0, kept));
        }
        self.slots = by_sample
            .iter()
            .enumerate()
            .flat_map(|(row, (_, slots))| (0..slots.len()).map(move |i| row as i64 * responses + i as i64))
            .collect();
        (self.samples, self.responses) = (samples, responses);
    }
}

/// −∞ beyond each prompt's end, unless all are equally long.
fn padding_mask(lengths: &[i64], kind: Kind, device: Device) -> Option<Tensor> {
    let longest = lengths.iter().copied().max()?;
    if lengths.iter().all(|&length| length == longest) {
        return None;
    }
    let ends = Tensor::from_slice(lengths).to_device(device).view([-1, 1, 1, 1]);
    let beyond = Tensor::arange(longest, (Kind::Int64, device)).ge_tensor(&ends);
    Some(Tensor::zeros(beyond.size(), (kind, device)).masked_fill(&beyond, f64::NEG_INFINITY))
}
