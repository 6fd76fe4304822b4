//! The key-value cache of responses that decode together on the CPU: their prompts', held once a sample, and their own.

use tch::{Device, Kind, Tensor};

use super::lanes::LANES;
use super::products::padded;

/// Keys `[…, kv heads, blocks, head, LANES]` and values `[…, kv heads, keys, head]` of one layer.
#[derive(Debug)]
pub(super) struct LayerCache {
    /// By sample.
    pub(super) prompt: (Tensor, Tensor),
    /// By slot.
    pub(super) own: (Tensor, Tensor),
}

/// Responses of equal length so far, `responses` to a sample; the rows of a step are those still alive.
#[derive(Debug)]
pub(crate) struct RowCohort {
    pub(super) layers: Vec<LayerCache>,
    /// Tokens of each sample's prompt.
    pub(super) prompts: Vec<usize>,
    /// Longest prompt, rows of the value cache.
    pub(super) longest: usize,
    pub(super) responses: usize,
    /// Own tokens that fit.
    pub(super) capacity: usize,
    /// Slot (sample · responses + response) of each row, ascending.
    pub(super) slots: Vec<usize>,
    /// Own tokens in the cache.
    pub(super) filled: usize,
}

impl RowCohort {
    /// A cohort of `responses` a sample with room for `capacity` own tokens each. `prompts` are keys and values by
    /// layer, then by sample, `[tokens, kv heads, head]`.
    pub(crate) fn new(prompts: Vec<Vec<(Tensor, Tensor)>>, responses: i64, capacity: i64) -> Self {
        let first = prompts.first().map(Vec::as_slice).unwrap_or_default();
        let lengths: Vec<i64> = first.iter().map(|(k, _)| k.size()[0]).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let samples = lengths.len() as i64;
        let layers =
            prompts.into_iter().map(|samples_of| layer(&samples_of, longest, samples * responses, capacity));
        Self {
            layers: layers.collect(),
            prompts: lengths.iter().map(|&length| length as usize).collect(),
            longest: longest as usize,
            responses: responses as usize,
            capacity: capacity as usize,
            slots: (0..(samples * responses) as usize).collect(),
            filled: 0,
        }
    }

    /// Responses still alive.
    pub(crate) fn rows(&self) -> usize {
        self.slots.len()
    }

    /// Own tokens that each response has in the cache.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Begins a step: its keys and values go behind those of the step before.
    pub(crate) fn advance(&mut self) {
        self.filled += 1;
    }

    /// Keeps the rows whose flag is true.
    pub(crate) fn keep(&mut self, alive: &[bool]) {
        let mut alive = alive.iter();
        self.slots.retain(|_| *alive.next().unwrap_or(&false));
    }

    /// First row and number of rows of each sample that is still alive, with the sample.
    pub(super) fn samples(&self) -> Vec<(usize, usize, usize)> {
        let mut samples: Vec<(usize, usize, usize)> = Vec::new();
        for (row, slot) in self.slots.iter().enumerate() {
            let sample = slot / self.responses;
            match samples.last_mut() {
                Some((last, _, rows)) if *last == sample => *rows += 1,
                _ => samples.push((sample, row, 1)),
            }
        }
        samples
    }
}

fn layer(prompts: &[(Tensor, Tensor)], longest: i64, slots: i64, capacity: i64) -> LayerCache {
    let (kind, heads, head) = prompts.first().map_or((Kind::Float, 0, 0), |(k, _)| {
        let (_, heads, head) = k.size3().unwrap_or_default();
        (k.kind(), heads, head)
    });
    let make = |shape: &[i64]| Tensor::empty(shape, (kind, Device::Cpu));
    let samples = prompts.len() as i64;
    let keys = |of: i64, keys: i64| make(&[of, heads, blocks(keys), head, LANES as i64]);
    let prompt = (keys(samples, longest), make(&[samples, heads, longest, head]));
    for (sample, (k, v)) in prompts.iter().enumerate() {
        let (tokens, sample) = (k.size()[0], sample as i64);
        let whole = k.constant_pad_nd([0, 0, 0, 0, 0, blocks(longest) * LANES as i64 - tokens]);
        let in_blocks = whole.view([blocks(longest), LANES as i64, heads, head]).permute([2, 0, 3, 1]);
        prompt.0.get(sample).copy_(&in_blocks);
        prompt.1.get(sample).narrow(1, 0, tokens).copy_(&v.transpose(0, 1));
    }
    // Pages of the responses' cache are touched, and so taken from the system, as they fill.
    let own = (keys(slots, capacity), make(&[slots, heads, capacity, head]));
    LayerCache { prompt, own }
}

fn blocks(keys: i64) -> i64 {
    padded(keys as usize) as i64 / LANES as i64
}
