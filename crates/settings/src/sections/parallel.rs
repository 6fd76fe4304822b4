//! `parallel:`: batch and sharding.

use serde::{Deserialize, Serialize};

/// `parallel:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parallel {
    /// How parameters lie over ranks.
    pub sharding: Sharding,
    /// Samples a step, over all ranks.
    pub samples_per_step: u32,
    /// Tokens a micro-batch may hold, prompts and completions.
    pub token_budget: u32,
    /// What the backward pass recomputes.
    pub recompute: Recompute,
}

impl Default for Parallel {
    fn default() -> Self {
        Self {
            sharding: Sharding::Replicate,
            samples_per_step: 32,
            token_budget: 16384,
            recompute: Recompute::None,
        }
    }
}

/// How parameters lie over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharding {
    /// Every rank holds everything.
    Replicate,
    /// Every rank holds the weights, and a slice of masters and moments.
    Optimizer,
    /// Every rank holds a slice of everything.
    Full,
    /// Every node holds everything, each of its ranks a slice.
    Hybrid,
}

/// What the backward pass recomputes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing: every activation is kept.
    None,
    /// Every block, from its kept input.
    Blocks,
}
