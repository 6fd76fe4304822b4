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
    /// Length bound of an answer, tokens; the rollout's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// A question to ask instead of the manifest's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Numbers a sample's pictures ("Picture 1: "), as the published code does when it judges.
    #[serde(skip_serializing_if = "super::data::is_off")]
    pub add_vision_id: bool,
    /// Resampled sets behind the intervals of SRCC and PLCC; 0: no intervals.
    pub bootstrap: u32,
    /// Ends a stage whose validation no longer gets better; absent: every stage takes all its steps.
    pub early_stop: Option<EarlyStop>,
}

/// When a stage has nothing more to gain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Evaluations in a row without a gain.
    pub patience: u32,
    /// What counts as a gain, SRCC.
    #[serde(default)]
    pub min_gain: f64,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            every: 50,
            responses: 1,
            temperature: 0.0,
            score: Score::Mean,
            samples: 0,
            max_new_tokens: None,
            question: None,
            add_vision_id: false,
            bootstrap: 1000,
            early_stop: None,
        }
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
