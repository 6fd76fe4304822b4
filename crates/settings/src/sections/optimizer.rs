//! `optimizer:`: AdamW and its schedule.

use serde::{Deserialize, Serialize};

/// `optimizer:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Peak learning rate.
    pub lr: f64,
    /// AdamW's decay rates.
    pub betas: [f64; 2],
    /// AdamW's ε.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Bound on the global gradient norm; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Learning rate over steps.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Non-finite steps in a row after which the run stops.
    pub max_consecutive_skips: u32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            max_consecutive_skips: 5,
        }
    }
}

/// Learning rate over steps, after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls to 0 in a line.
    Linear,
    /// Falls to 0 in half a cosine.
    Cosine,
}
