//! Samples packed without padding: `[prompt][completion 1]…[completion K]` each, one sample after the other.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::attention::Plan;
use crate::prompt::Prompt;

/// A prompt with its completions, to be packed.
#[derive(Clone, Debug)]
pub struct PackedSample<'a> {
    /// The prompt, whose keys and values all completions share.
    pub prompt: &'a Prompt,
    /// Completions, none of them empty, with their end tokens.
    pub completions: Vec<&'a [u32]>,
}

/// Where one sample lies in a packed batch, tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The prompt.
    pub prompt: Range<usize>,
    /// Its completions, which follow it.
    pub completions: Vec<Range<usize>>,
}

/// A packed batch of T tokens on a device.
#[derive(Debug)]
pub struct Packed {
    /// Token ids, `[T]` i64.
    pub ids: Tensor,
    /// mRoPE positions (time, height, width), `[3, T]` i64.
    pub positions: Tensor,
    /// Rows that image tokens fill, in the order of the vision chain's output, `[n]` i64.
    pub image_slots: Tensor,
    /// Where each sample lies.
    pub segments: Vec<Segment>,
    pub(crate) plan: Plan,
    host_ids: Vec<i64>,
}

/// Which rows predict which tokens.
#[derive(Debug)]
pub struct Targets {
    /// Row of the final hidden state that predicts each completion token, `[R]` i64: the one before it, and the
    /// prompt's last for a completion's first.
    pub rows: Tensor,
    /// The completion tokens, `[R]` i64.
    pub ids: Tensor,
    /// Which completion each belongs to, counted over all samples.
    pub completion: Vec<usize>,
}

impl Packed {
    /// Packs `samples`. `kind` is the compute type, in which the attention masks are held.
    ///
    /// # Panics
    /// If a completion is empty: it has nothing to score.
    #[must_use]
    pub fn new(samples: &[PackedSample<'_>], kind: Kind, device: Device) -> Self {
        let mut ids: Vec<i64> = Vec::new();
        let mut axes: [Vec<i64>; 3] = Default::default();
        let mut slots: Vec<i64> = Vec::new();
        let mut segments = Vec::with_capacity(samples.len());
        for sample in samples {
            let start = ids.len();
            slots.extend(sample.prompt.slots.iter().map(|&slot| (start + slot) as i64));
            ids.extend(sample.prompt.ids.iter().map(|&id| i64::from(id)));
            for (axis, values) in axes.iter_mut().enumerate() {
                values.extend(sample.prompt.positions.iter().map(|place| place[axis]));
            }
            let prompt = start..ids.len();
            let mut completions = Vec::with_capacity(sample.completions.len());
            for completion in &sample.completions {
                assert!(!completion.is_empty(), "a completion without tokens cannot be packed");
                let from = ids.len();
                ids.extend(completion.iter().map(|&id| i64::from(id)));
                for values in &mut axes {
                    let first = sample.prompt.next_position;
                    values.extend((0..completion.len() as i64).map(|token| first + token));
                }
                completions.push(from..ids.len());
            }
            segments.push(Segment { prompt, completions });
        }
        let plan = Plan::new(segments.clone(), kind, device);
        let upload = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Self {
            positions: upload(&axes.concat()).view([3, -1]),
            image_slots: upload(&slots),
            ids: upload(&ids),
            segments,
            plan,
            host_ids: ids,
        }
    }

    /// T, tokens in all.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.host_ids.len()
    }

    /// Tokens of completions, over all samples.
    #[must_use]
    pub fn completion_tokens(&self) -> usize {
        self.segments.iter().flat_map(|s| &s.completions).map(Range::len).sum()
    }

    /// Which row predicts which completion token, in packed order.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let mut rows: Vec<i64> = Vec::new();
        let mut completion = Vec::new();
        let mut ids: Vec<i64> = Vec::new();
        let mut number = 0;
        for segment in &self.segments {
            for range in &segment.completions {
                rows.push(segment.prompt.end as i64 - 1);
                rows.extend((range.start..range.end - 1).map(|row| row as i64));
                ids.extend(&self.host_ids[range.clone()]);
                completion.extend(std::iter::repeat_n(number, range.len()));
                number += 1;
            }
        }
        let device = self.ids.device();
        let upload = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Targets { rows: upload(&rows), ids: upload(&ids), completion }
    }

    /// The last row of every sample's prompt, `[samples]` i64: it predicts the first token of its completions.
    pub fn prompt_ends(&self) -> Tensor {
        let ends: Vec<i64> = self.segments.iter().map(|s| s.prompt.end as i64 - 1).collect();
        Tensor::from_slice(&ends).to_device(self.ids.device())
    }
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
