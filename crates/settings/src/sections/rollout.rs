//! `rollout:` and `evaluation:`: how answers are drawn.

use serde::{Deserialize, Serialize};

/// `rollout:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// K, responses a sample.
    pub responses: u32,
    /// Length bound of a completion, tokens.
    pub max_new_tokens: u32,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f64,
    /// Tokens kept by rank; 0 keeps all.
    pub top_k: u32,
    /// Probability mass kept.
    pub top_p: f64,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { responses: 6, max_new_tokens: 256, temperature: 1.0, top_k: 50, top_p: 1.0 }
    }
}

/// `evaluation:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// Steps between evaluations on the validation sets; 0: only before and after the stage.
    pub every: u64,
    /// Responses a sample, averaged.
    pub responses: u32,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f64,
    /// Which of an answer's numbers is the prediction.
    pub score: Score,
    /// Samples of each validation set used within a stage; 0: all.
    pub samples: u32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { every: 50, responses: 1, temperature: 0.0, score: Score::Mean, samples: 0 }
    }
}

/// Which of an answer's numbers is the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The mean of the aspects.
    Mean,
    /// The first number.
    First,
}
