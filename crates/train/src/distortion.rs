//! The throw-away head of a `kind: vision` stage: from a picture's merged tokens to the distortion's kind, its
//! severity and the picture's quality. It teaches the tower to see and is never exported.
//!
//! A picture's tokens are averaged, layer-normed, and read by three linear maps; all in f32.

use model::{Link, Params, VisionBatch};
use settings::Supervised;
use tch::{Device, IndexOp, Kind, Reduction, Tensor};

use crate::metrics::Sums;

/// Kinds of distortion that the head tells apart: KADID-10k's 25, and none.
pub const KINDS: i64 = 26;
/// Severities that the head tells apart: KADID-10k's five levels and none, or a scale as fine as ten.
pub const LEVELS: i64 = 10;

/// Qualities are learned as distances from the middle of [1, 5].
const MIDDLE: f64 = 3.0;
const NORM_EPS: f64 = 1e-5;
const PREFIX: &str = "distortion_head.";

/// Whether a parameter belongs to the head.
pub(crate) fn is_head(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The head's parameters, sorted.
pub(crate) fn names() -> Vec<String> {
    let names = ["kind.bias", "kind.weight", "level.bias", "level.weight"];
    let rest = ["norm.bias", "norm.weight", "quality.bias", "quality.weight"];
    names.iter().chain(&rest).map(|name| format!("{PREFIX}{name}")).collect()
}

/// Fresh parameters over tokens of width `hidden`, f32: the same on every rank.
pub(crate) fn fresh(hidden: i64) -> Params {
    let mut draws = Draws(0x9e37_79b9_7f4a_7c15);
    let bound = 1.0 / (hidden.max(1) as f32).sqrt();
    let mut params = Params::new();
    for (part, rows) in [("kind", KINDS), ("level", LEVELS), ("quality", 1)] {
        let values: Vec<f32> = (0..rows * hidden).map(|_| bound * draws.symmetric()).collect();
        params.insert(format!("{PREFIX}{part}.weight"), Tensor::from_slice(&values).view([rows, hidden]));
        params.insert(format!("{PREFIX}{part}.bias"), Tensor::zeros([rows], (Kind::Float, Device::Cpu)));
    }
    params.insert(format!("{PREFIX}norm.weight"), Tensor::ones([hidden], (Kind::Float, Device::Cpu)));
    params.insert(format!("{PREFIX}norm.bias"), Tensor::zeros([hidden], (Kind::Float, Device::Cpu)));
    params
}

/// The chain's last link: merged tokens `[n, hidden]` of the batch's pictures to `[pictures, KINDS + LEVELS + 1]`.
pub(crate) fn link(batch: &VisionBatch, merge: i64, device: Device) -> Link<'static> {
    let lengths: Vec<i64> = batch.grids.iter().map(|grid| grid.tokens(merge as usize) as i64).collect();
    let owners: Vec<i64> =
        lengths.iter().enumerate().flat_map(|(i, &n)| std::iter::repeat_n(i as i64, n as usize)).collect();
    let owners = Tensor::from_slice(&owners).to_device(device);
    let lengths = Tensor::from_slice(&lengths).to_device(device).to_kind(Kind::Float).unsqueeze(1);
    Link {
        name: "distortion_head".to_owned(),
        params: names(),
        forward: Box::new(move |params, tokens| {
            let weight = |name: &str| params.get(&format!("{PREFIX}{name}")).to_kind(Kind::Float);
            let tokens = tokens.to_kind(Kind::Float);
            let sums = tokens.new_zeros([lengths.size()[0], tokens.size()[1]], (Kind::Float, device));
            let means = sums.index_add(0, &owners, &tokens) / &lengths;
            let (gain, bias) = (weight("norm.weight"), weight("norm.bias"));
            let normed = means.layer_norm([means.size()[1]], Some(gain), Some(bias), NORM_EPS, false);
            let read = |part: &str| {
                normed.linear(&weight(&format!("{part}.weight")), Some(&weight(&format!("{part}.bias"))))
            };
            Tensor::cat(&[read("kind"), read("level"), read("quality")], 1)
        }),
    }
}

/// What pictures show; one entry a picture.
#[derive(Debug)]
pub(crate) struct Labels {
    /// i64 `[pictures]`.
    pub(crate) kinds: Tensor,
    /// i64 `[pictures]`.
    pub(crate) levels: Tensor,
    /// f32 `[pictures]`, in [1, 5].
    pub(crate) qualities: Tensor,
}

impl Labels {
    /// The weighted cross-entropies of kind and level and the squared error of quality, summed over pictures and
    /// divided by `samples` (over all ranks), of the head's `output` (f32, tracked). A scalar.
    pub(crate) fn loss(&self, output: &Tensor, weights: &Supervised, samples: u64) -> (Tensor, Sums) {
        let (kinds, levels) = (output.i((.., ..KINDS)), output.i((.., KINDS..KINDS + LEVELS)));
        let entropy = |logits: &Tensor, labels: &Tensor| {
            logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0)
        };
        let (kind, level) = (entropy(&kinds, &self.kinds), entropy(&levels, &self.levels));
        let error = (output.i((.., KINDS + LEVELS)) - (&self.qualities - MIDDLE)).square();
        let mut sums = Sums::default();
        sums.count("pictures", self.kinds.numel() as f64);
        sums.add("kind_loss", &kind);
        sums.add("level_loss", &level);
        sums.add("quality_error", &error);
        sums.add("kind_right", &kinds.argmax(1, false).eq_tensor(&self.kinds));
        let loss = kind * weights.kind_weight
            + level * weights.level_weight
            + error.sum(Kind::Float) * weights.quality_weight;
        (loss / samples.max(1) as f64, sums)
    }
}

/// The head's answer on one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Quality, near [1, 5].
    pub quality: f64,
    /// The likeliest kind.
    pub kind: u32,
    /// The likeliest severity.
    pub level: u32,
}

/// Reads the head's output, one prediction a picture.
pub(crate) fn read(output: &Tensor) -> Vec<Prediction> {
    let best = |from: i64, to: i64| output.i((.., from..to)).argmax(1, false);
    let (kinds, levels) = (best(0, KINDS), best(KINDS, KINDS + LEVELS));
    let qualities = output.i((.., KINDS + LEVELS)) + MIDDLE;
    let class = |t: &Tensor, i: i64| u32::try_from(t.int64_value(&[i])).unwrap_or_default();
    (0..output.size()[0])
        .map(|i| Prediction {
            quality: qualities.double_value(&[i]),
            kind: class(&kinds, i),
            level: class(&levels, i),
        })
        .collect()
}

/// Uniform draws that are the same everywhere (splitmix64).
struct Draws(u64);

impl Draws {
    /// In [−1, 1).
    fn symmetric(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}
