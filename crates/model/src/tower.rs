//! The vision tower: patches to merged tokens (transformers' `Qwen2_5_VisionTransformerPretrainedModel`).

use tch::{Device, Kind, Tensor};
use vision::{Grid, Patches};

use crate::config::{Config, VISION_NORM_EPS, VISION_ROPE_THETA};
use crate::dropout::Dropout;
use crate::linear::Parts;
use crate::lora::Adapters;
use crate::ops::{Rotation, attention, gated, inverse_frequencies, rms_norm, rotate};
use crate::params::Params;
use crate::windows::{Order, Run, frames, patch_places, windows};

/// The pictures of a batch, in the order in which their merged tokens are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VisionBatch {
    /// Their patches' grids.
    pub grids: Vec<Grid>,
}

impl VisionBatch {
    /// Merged tokens in all, for `merge` × `merge` patches a token.
    #[must_use]
    pub fn tokens(&self, merge: i64) -> usize {
        self.grids.iter().map(|grid| grid.tokens(merge as usize)).sum()
    }
}

/// The pixel values of `pictures`, one after the other: `[patches, channels · time · patch · patch]` as `kind` on
/// `device`.
pub fn pixel_values(pictures: &[&Patches], values_per_patch: i64, kind: Kind, device: Device) -> Tensor {
    let parts: Vec<Tensor> = pictures
        .iter()
        .map(|p| Tensor::from_slice(&p.values).view([-1, values_per_patch]).to_kind(kind).to_device(device))
        .collect();
    if parts.is_empty() {
        return Tensor::zeros([0, values_per_patch], (kind, device));
    }
    Tensor::cat(&parts, 0)
}

/// What all blocks of one pass over a batch share.
#[derive(Debug)]
pub(crate) struct VisionPass {
    /// Token at each place of the window order; absent where that is the given order.
    order: Option<Tensor>,
    /// Place of each token.
    undo: Option<Tensor>,
    windowed: Sequences,
    full: Sequences,
    rotation: Rotation,
    heads: i64,
    /// Patches a merged token.
    unit: i64,
    adapters: Adapters,
    /// Of a training pass, rows in window order.
    dropout: Option<Dropout>,
}

/// Sequences of patches that attend among themselves.
#[derive(Debug)]
struct Sequences {
    /// In patches.
    runs: Vec<Run>,
    /// Permutation of merged tokens into the sequences' order and back; absent where they already lie so.
    moved: Option<(Tensor, Tensor)>,
}

impl VisionPass {
    /// `dropout` has a row a patch, in the given order.
    pub(crate) fn new(
        batch: &VisionBatch,
        config: &Config,
        device: Device,
        adapters: &Adapters,
        dropout: Option<&Dropout>,
    ) -> Self {
        let vision = &config.vision;
        let merge = vision.merge as usize;
        let unit = vision.merge * vision.merge;
        let by_window = windows(&batch.grids, merge, vision.window_tokens() as usize);
        let by_frame = frames(&batch.grids, merge);
        let undo = by_window.places();
        // Where the frame order finds its tokens within the window order.
        let from_windows: Vec<i64> = by_frame.tokens.iter().map(|&token| undo[token as usize]).collect();
        let back = Order { tokens: from_windows.clone(), runs: Vec::new() }.places();
        let moved = permutation(&from_windows, device).zip(permutation(&back, device));
        let in_patches =
            |runs: &[Run]| runs.iter().map(|r| Run { count: r.count, length: r.length * unit }).collect();
        let order = permutation(&by_window.tokens, device);
        Self {
            windowed: Sequences { runs: in_patches(&by_window.runs), moved: None },
            full: Sequences { runs: in_patches(&by_frame.runs), moved },
            rotation: rotation(&batch.grids, config, order.as_ref(), device),
            undo: permutation(&undo, device),
            order,
            heads: vision.heads,
            unit,
            adapters: adapters.clone(),
            dropout: dropout.map(|dropout| dropout.ordered(&by_window.tokens, unit)),
        }
    }

    /// Pixel values in the given order to hidden patches in window order.
    pub(crate) fn embed(&self, params: &Params, pixels: &Tensor) -> Tensor {
        let filters = self.parts(params, self.dropout.as_ref()).linear("visual.patch_embed.proj");
        filters.apply(&permute(pixels, self.order.as_ref(), self.unit))
    }

    fn parts<'a>(&'a self, params: &'a Params, dropout: Option<&'a Dropout>) -> Parts<'a> {
        Parts { params, adapters: &self.adapters, dropout }
    }

    /// One block, `[patches, hidden]` to the same; `prefix` ends in a dot.
    pub(crate) fn block(&self, params: &Params, prefix: &str, full: bool, x: &Tensor) -> Tensor {
        let weight = |name: &str| params.get(&format!("{prefix}{name}"));
        let parts = self.parts(params, self.dropout.as_ref());
        let linear = |x: &Tensor, name: &str| parts.linear(&format!("{prefix}{name}")).apply(x);
        let normed = rms_norm(x, weight("norm1.weight"), VISION_NORM_EPS);
        let sequences = if full { &self.full } else { &self.windowed };
        let attended = self.attend(&linear(&normed, "attn.qkv"), sequences);
        let x = x + linear(&attended, "attn.proj");
        let normed = rms_norm(&x, weight("norm2.weight"), VISION_NORM_EPS);
        let inner = gated(&linear(&normed, "mlp.gate_proj"), &linear(&normed, "mlp.up_proj"));
        x + linear(&inner, "mlp.down_proj")
    }

    /// Merges the patches of each token, giving `[tokens, out hidden]` in the given order.
    pub(crate) fn merge(&self, params: &Params, x: &Tensor) -> Tensor {
        let dropout = self.dropout.as_ref().map(|dropout| dropout.every(self.unit));
        let parts = self.parts(params, dropout.as_ref());
        let merged = self.unit * x.size()[1];
        let x = rms_norm(x, params.get("visual.merger.ln_q.weight"), VISION_NORM_EPS).view([-1, merged]);
        let x = parts.linear("visual.merger.mlp.0").apply(&x).gelu("none");
        let x = parts.linear("visual.merger.mlp.2").apply(&x);
        permute(&x, self.undo.as_ref(), 1)
    }

    /// Attention of `[patches, 3 · hidden]`, giving `[patches, hidden]`.
    fn attend(&self, qkv: &Tensor, sequences: &Sequences) -> Tensor {
        let (patches, width) = qkv.size2().unwrap_or_default();
        let head = width / 3 / self.heads;
        let parts =
            qkv.view([patches, 3 * self.heads, head]).split_with_sizes([2 * self.heads, self.heads], 1);
        // Rotated in f32, as the reference does.
        let rotated = rotate(&parts[0].to_kind(Kind::Float), &self.rotation).to_kind(qkv.kind());
        let qkv = Tensor::cat(&[&rotated, &parts[1]], 1).view([patches, width]);
        let there = sequences.moved.as_ref().map(|(there, _)| there);
        let back = sequences.moved.as_ref().map(|(_, back)| back);
        let qkv = permute(&qkv, there, self.unit);
        let sizes: Vec<i64> = sequences.runs.iter().map(|run| run.count * run.length).collect();
        let outs: Vec<Tensor> = qkv
            .split_with_sizes(&sizes, 0)
            .iter()
            .zip(&sequences.runs)
            .map(|(part, run)| {
                let part = part
                    .view([run.count, run.length, 3, self.heads, head])
                    .permute([2, 0, 3, 1, 4])
                    .unbind(0);
                let out = attention(&part[0], &part[1], &part[2], None, false);
                out.transpose(1, 2).reshape([run.count * run.length, width / 3])
            })
            .collect();
        permute(&Tensor::cat(&outs, 0), back, self.unit)
    }
}

/// Uploads a permutation, unless it leaves everything where it is.
fn permutation(tokens: &[i64], device: Device) -> Option<Tensor> {
    let moves = tokens.iter().enumerate().any(|(place, &token)| token != place as i64);
    moves.then(|| Tensor::from_slice(tokens).to_device(device))
}

/// Moves groups of `unit` consecutive rows.
fn permute(x: &Tensor, order: Option<&Tensor>, unit: i64) -> Tensor {
    let Some(order) = order else { return x.shallow_clone() };
    let (rows, width) = x.size2().unwrap_or_default();
    x.reshape([rows / unit, unit * width]).index_select(0, order).view([rows, width])
}

/// Angles of rows for the first half of a head's frequencies, of columns for the second.
fn rotation(grids: &[Grid], config: &Config, order: Option<&Tensor>, device: Device) -> Rotation {
    let vision = &config.vision;
    let frequencies = inverse_frequencies(VISION_ROPE_THETA, vision.head_dim() / 2);
    let places: Vec<i64> = patch_places(grids, vision.merge as usize).concat();
    let places = Tensor::from_slice(&places).to_kind(Kind::Float).view([-1, 2, 1]);
    let angles = (places * frequencies).flatten(1, 2).to_device(device);
    Rotation::new(&permute(&angles, order, vision.merge * vision.merge), Kind::Float)
}
