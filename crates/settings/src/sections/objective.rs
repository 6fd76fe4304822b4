//! `objective:` and `supervised:`: the losses.

use serde::{Deserialize, Serialize};

/// `objective:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// From rewards to advantages.
    pub advantage: Advantage,
    /// How token losses are averaged.
    pub loss: LossForm,
    /// β of the KL term; 0 needs no reference pass.
    pub beta: f64,
    /// Estimator of the KL term.
    pub kl: Kl,
    /// Lower clip of the ratio.
    pub epsilon_low: f64,
    /// Upper clip of the ratio.
    pub epsilon_high: f64,
    /// μ, optimizer steps a rollout.
    pub iterations: u32,
    /// What the KL term holds the policy to.
    pub reference: Reference,
    /// Steps between two moves of a synced reference.
    pub sync_every: u64,
    /// α, the policy's share in a synced reference: ref ← α·policy + (1 − α)·ref.
    pub sync_mixture: f64,
    /// Most that a token weighs for the policy's being likelier in training than in the rollout; none: all weigh 1.
    pub importance_cap: Option<f64>,
    /// What becomes of groups whose rewards are all equal.
    pub zero_spread: ZeroSpread,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            advantage: Advantage::Std,
            loss: LossForm::SequenceMean,
            beta: 0.04,
            kl: Kl::K3,
            epsilon_low: 0.2,
            epsilon_high: 0.2,
            iterations: 1,
            reference: Reference::Initial,
            sync_every: 512,
            sync_mixture: 0.6,
            importance_cap: None,
            zero_spread: ZeroSpread::Keep,
        }
    }
}

/// From a group's rewards to advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// `(R − mean) / (std + 1e-4)`, unbiased std.
    Std,
    /// `R − mean` (Dr. GRPO).
    MeanOnly,
}

/// How token losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossForm {
    /// Mean over a completion's tokens, then over completions.
    SequenceMean,
    /// Mean over all tokens (DAPO).
    TokenMean,
    /// Sum over tokens / (completions × max_new_tokens) (Dr. GRPO).
    FixedLength,
}

/// Estimator of KL(π ‖ π_ref) a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kl {
    /// `−Δ`.
    K1,
    /// `Δ² / 2`.
    K2,
    /// `e^Δ − Δ − 1`.
    K3,
}

/// The policy that the KL term compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The stage's start.
    Initial,
    /// The stage's start, moved towards the policy every `sync_every` steps.
    Synced,
    /// The model without its adapters (`model.trainable: lora`).
    Base,
}

/// Groups that carry no signal, because their rewards are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroSpread {
    /// Counted, and trained on as they are.
    Keep,
    /// Drawn again, once a step.
    Resample,
}

/// `supervised:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supervised {
    /// Weight of the answer's leading words (kind and severity), against 1 for the rest.
    pub lead_weight: f64,
    /// Weight of the head's distortion-type cross-entropy (`kind: vision`).
    pub kind_weight: f64,
    /// Weight of the head's level cross-entropy.
    pub level_weight: f64,
    /// Weight of the head's squared quality error.
    pub quality_weight: f64,
    /// Share of the stage's steps that see gross levels only (4 and 5, then 3 to 5), before all.
    pub gross_first: f64,
}

impl Default for Supervised {
    fn default() -> Self {
        Self { lead_weight: 6.0, kind_weight: 1.0, level_weight: 0.5, quality_weight: 1.0, gross_first: 0.0 }
    }
}
