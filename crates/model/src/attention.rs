//! Attention over packed samples: a sample's completions share its prompt and do not see each other.
//!
//! The packed tokens are cut into pieces (prompts and completions). Samples whose prompts are equally long form a
//! group that is attended in two calls: all prompts, causally; then all completions, each against its prompt's keys
//! and its own. Padding (to the group's longest completion) and the repetition of the prompt's keys and values for
//! each completion live inside this function only: with grouped-query attention they are small beside the scores,
//! which libtorch's fused kernel then never materialises. Splitting and concatenating have linear-time gradients.
//!
//! On the CPU one pass each way does all of it, see [`cpu::attend_packed`].

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::cpu::{self, Bf16, Element};
use crate::derivative::{Function, apply};
use crate::ops::{Rotation, attention};
use crate::packed::Segment;
use crate::text::Qkv;

/// How the pieces of a packed batch attend.
#[derive(Debug)]
pub(crate) struct Plan {
    segments: Arc<[Segment]>,
    /// Lengths of all pieces, in packed order.
    pieces: Vec<i64>,
    groups: Vec<Group>,
}

/// Samples of equal prompt length and equal number of completions.
#[derive(Debug)]
struct Group {
    /// Pieces that are prompts, one a sample.
    prompts: Vec<usize>,
    /// Pieces that are completions, sample by sample.
    completions: Vec<usize>,
    responses: i64,
    /// Added to the scores: `[longest completion, prompt + longest completion]`.
    mask: Option<Tensor>,
}

impl Plan {
    /// The plan of `segments`, which lie in packed order without gaps.
    pub(crate) fn new(segments: Vec<Segment>, kind: Kind, device: Device) -> Self {
        let mut pieces = Vec::new();
        let mut by_shape: BTreeMap<(usize, usize), (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for segment in &segments {
            let (prompts, completions) =
                by_shape.entry((segment.prompt.len(), segment.completions.len())).or_default();
            prompts.push(pieces.len());
            pieces.push(segment.prompt.len() as i64);
            for completion in &segment.completions {
                completions.push(pieces.len());
                pieces.push(completion.len() as i64);
            }
        }
        let groups = by_shape
            .into_iter()
            .map(|((prompt, responses), (prompts, completions))| {
                let longest = completions.iter().map(|&piece| pieces[piece]).max();
                let mask = longest.map(|longest| completion_mask(prompt as i64, longest, kind, device));
                Group { prompts, completions, responses: responses as i64, mask }
            })
            .collect();
        Self { segments: segments.into(), pieces, groups }
    }

    /// Attends queries `[tokens, heads, head]` to keys and values `[tokens, kv heads, head]`, not yet rotated, giving
    /// `[tokens, heads · head]`.
    pub(crate) fn attend(&self, qkv: &Qkv, rotation: &Rotation) -> Tensor {
        match qkv.q.kind() {
            Kind::Float if qkv.q.device() == Device::Cpu => self.attend_on_cpu::<f32>(qkv, rotation),
            Kind::BFloat16 if qkv.q.device() == Device::Cpu => self.attend_on_cpu::<Bf16>(qkv, rotation),
            _ => {
                let Qkv { q, k, v } = qkv.rotated(rotation);
                self.attend_rotated(&q, &k, &v)
            }
        }
    }

    fn attend_on_cpu<T: Element>(&self, Qkv { q, k, v }: &Qkv, rotation: &Rotation) -> Tensor {
        let attention = PackedAttention {
            segments: Arc::clone(&self.segments),
            cos: rotation.cos.shallow_clone(),
            sin: rotation.sin.shallow_clone(),
            of: PhantomData::<T>,
        };
        apply(attention, &[&q.contiguous(), &k.contiguous(), &v.contiguous()])
    }

    /// As [`Self::attend`], by tensor operations, of rotated queries and keys.
    pub(crate) fn attend_rotated(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let [q, k, v] = [q, k, v].map(|x| x.split_with_sizes(&self.pieces, 0));
        let mut out: BTreeMap<usize, Tensor> = BTreeMap::new();
        for group in &self.groups {
            group.attend(&self.pieces, &q, &k, &v, &mut out);
        }
        let in_order: Vec<Tensor> = out.into_values().collect();
        Tensor::cat(&in_order, 0)
    }
}

/// [`Plan::attend`] on the CPU: of queries, keys and values.
struct PackedAttention<T> {
    segments: Arc<[Segment]>,
    cos: Tensor,
    sin: Tensor,
    of: PhantomData<T>,
}

impl<T> PackedAttention<T> {
    fn inputs<'a>(&'a self, [q, k, v]: [&'a Tensor; 3]) -> cpu::Inputs<'a> {
        cpu::Inputs { q, k, v, cos: &self.cos, sin: &self.sin }
    }
}

impl<T: Element> Function for PackedAttention<T> {
    fn forward(&self, inputs: &[&Tensor]) -> (Tensor, Vec<Tensor>) {
        let [q, k, v] = [inputs[0], inputs[1], inputs[2]];
        let (out, totals) = cpu::attend_packed::<T>(&self.inputs([q, k, v]), &self.segments);
        // Detached: a node that held its own output would never be freed.
        let saved = [q, k, v].map(Tensor::shallow_clone).into_iter().chain([out.detach(), totals]);
        let saved = saved.collect();
        (out, saved)
    }

    fn backward(&self, saved: &[Tensor], gradient: &Tensor) -> Vec<Tensor> {
        let inputs = self.inputs([&saved[0], &saved[1], &saved[2]]);
        let gradient = gradient.contiguous();
        cpu::attend_packed_backward::<T>(&inputs, &self.segments, &saved[3], &saved[4], &gradient).into()
    }
}

/// Everything before and at a completion's own token is seen: 0 there, −∞ elsewhere.
fn completion_mask(prompt: i64, longest: i64, kind: Kind, device: Device) -> Tensor {
    let hidden = Tensor::ones([longest, prompt + longest], (Kind::Bool, device)).triu(prompt + 1);
    Tensor::zeros([longest, prompt + longest], (kind, device)).masked_fill(&hidden, f64::NEG_INFINITY)
}

impl Group {
    fn attend(
        &self,
        pieces: &[i64],
        q: &[Tensor],
        k: &[Tensor],
        v: &[Tensor],
        out: &mut BTreeMap<usize, Tensor>,
    ) {
        let stack = |of: &[Tensor]| Tensor::stack(&pick(of, &self.prompts), 0);
        let (prompt_k, prompt_v) = (stack(k), stack(v));
        let prompt_out = attend_prompts(&stack(q), &prompt_k, &prompt_v);
        out.extend(self.prompts.iter().copied().zip(prompt_out.unbind(0)));
        let Some(mask) = &self.mask else { return };
        let pad = |of: &[Tensor]| padded(&pick(of, &self.completions));
        let keys = self.behind_prompts(&prompt_k, &pad(k));
        let values = self.behind_prompts(&prompt_v, &pad(v));
        let attended = attend_folded(&pad(q), &keys, &values, mask);
        let (rows, longest) = (attended.size()[0], attended.size()[1]);
        let lengths: Vec<i64> =
            self.completions.iter().flat_map(|&piece| [pieces[piece], longest - pieces[piece]]).collect();
        let parts = attended.reshape([rows * longest, -1]).split_with_sizes(&lengths, 0);
        out.extend(self.completions.iter().copied().zip(parts.into_iter().step_by(2)));
    }

    /// Keys or values of completions behind those of their prompts: `[completions, prompt + longest, heads, head]`.
    fn behind_prompts(&self, prompts: &Tensor, completions: &Tensor) -> Tensor {
        let (samples, prompt, heads, head) = prompts.size4().unwrap_or_default();
        let longest = completions.size()[1];
        let shared = prompts.unsqueeze(1).expand([samples, self.responses, prompt, heads, head], false);
        let own = completions.view([samples, self.responses, longest, heads, head]);
        Tensor::cat(&[shared, own], 2).view([samples * self.responses, prompt + longest, heads, head])
    }
}

/// Sequences `[length, …]` under one another, filled up with zeros to the longest: `[sequences, longest, …]`. Its
/// gradient is narrowing, which costs nothing; that of `pad_sequence` copies the whole once a sequence.
fn padded(sequences: &[&Tensor]) -> Tensor {
    let longest = sequences.iter().map(|sequence| sequence.size()[0]).max().unwrap_or(0);
    let mut shape = sequences.first().map(|sequence| sequence.size()).unwrap_or_default();
    shape[0] = longest;
    let zeros =
        sequences.first().map(|sequence| sequence.new_zeros(&shape, (sequence.kind(), sequence.device())));
    let fill: Vec<Tensor> = sequences
        .iter()
        .filter_map(|sequence| Some(zeros.as_ref()?.narrow(0, 0, longest - sequence.size()[0])))
        .collect();
    let both: Vec<&Tensor> =
        sequences.iter().copied().zip(&fill).flat_map(|(sequence, fill)| [sequence, fill]).collect();
    let whole = Tensor::cat(&both, 0);
    shape.insert(0, sequences.len() as i64);
    whole.view(shape.as_slice())
}

fn pick<'a>(of: &'a [Tensor], which: &[usize]) -> Vec<&'a Tensor> {
    which.iter().map(|&piece| &of[piece]).collect()
}

/// Causal attention of `[samples, tokens, heads, head]`, giving `[samples, tokens, heads · head]`.
fn attend_prompts(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let (samples, tokens, heads, head) = q.size4().unwrap_or_default();
    let kv_heads = k.size()[2];
    let widen = |x: &Tensor| {
        let x = x.transpose(1, 2);
        if kv_heads == heads {
            return x;
        }
        let each = [samples, kv_heads, heads / kv_heads, tokens, head];
        x.unsqueeze(2).expand(each, false).reshape([samples, heads, tokens, head])
    };
    attention(&q.transpose(1, 2), &widen(k), &widen(v), None, true).transpose(1, 2).reshape([
        samples,
        tokens,
        heads * head,
    ])
}

/// Attention of queries `[rows, tokens, heads, head]` to keys `[rows, seen, kv heads, head]` under a mask
/// `[tokens, seen]`: the query heads that share a key head lie one after the other as longer queries.
fn attend_folded(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Tensor {
    let (rows, tokens, heads, head) = q.size4().unwrap_or_default();
    let kv_heads = k.size()[2];
    let shared = heads / kv_heads;
    let folded = q.view([rows, tokens, kv_heads, shared, head]).permute([0, 2, 3, 1, 4]).reshape([
        rows,
        kv_heads,
        shared * tokens,
        head,
    ]);
    let mask = mask.repeat([shared, 1]);
    attention(&folded, &k.transpose(1, 2), &v.transpose(1, 2), Some(&mask), false)
        .view([rows, kv_heads, shared, tokens, head])
        .permute([0, 3, 1, 2, 4])
        .reshape([rows, tokens, heads * head])
}
