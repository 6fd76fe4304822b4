//! `reward:`: how answers are scored.

use serde::{Deserialize, Serialize};

/// `reward:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reward {
    /// Which reward.
    pub kind: RewardKind,
    /// Whose samples are compared.
    pub scope: Scope,
    /// Samples compared together under `scope: device`.
    pub group_samples: u32,
    /// Demand the published line breaks inside `<answer>`.
    pub strict_format: bool,
    /// Constants of PRPO's parts.
    pub parts: Parts,
}

impl Default for Reward {
    fn default() -> Self {
        Self {
            kind: RewardKind::Prpo,
            scope: Scope::Global,
            group_samples: 8,
            strict_format: true,
            parts: Parts::default(),
        }
    }
}

/// Which reward scores the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// docs/method.md section 2.
    Prpo,
    /// VisualQuality-R1's.
    #[serde(rename = "visualquality_r1")]
    VisualQualityR1,
}

/// Whose samples PRPO compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Groups of `group_samples`, as the published code's devices.
    Device,
    /// The whole batch, as the paper.
    Global,
}

/// Constants of PRPO's parts; the defaults are the published ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parts {
    /// Weight of the pairwise part W.
    pub pairwise: f64,
    /// Weight of the triplet part Y.
    pub triplet: f64,
    /// Weight of the response balance T in the sum.
    pub response_balance: f64,
    /// λ inside the response balance T.
    pub response_balance_lambda: f64,
    /// λ_std of the std penalty P; 0 switches it off.
    pub std_penalty: f64,
    /// `min_std` of the std penalty P.
    pub min_std: f64,
    /// Weight of the score rank S (images only).
    pub score_rank: f64,
    /// What the sum is divided by where S takes part (images, `score_rank` above 0).
    pub divisor: f64,
    /// Weight of the format F.
    pub format: f64,
    /// Aspects that the response balance looks at, images.
    pub balance_aspects: u32,
    /// Which responses of the samples Y compares.
    pub triplet_columns: Columns,
    /// What W gives a wrongly ordered pair.
    pub misordered: Misordered,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            pairwise: 0.375,
            triplet: 0.125,
            response_balance: 0.5,
            response_balance_lambda: 0.5,
            std_penalty: 0.5,
            min_std: 0.5,
            score_rank: 1.0,
            divisor: 3.0,
            format: 1.0,
            balance_aspects: 4,
            triplet_columns: Columns::Index,
            misordered: Misordered::Published,
        }
    }
}

/// Which responses of several samples stand side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Columns {
    /// Those of the same index, as the published code.
    Index,
    /// Those of the same rank among their sample's predictions, as the paper's figures.
    Sorted,
}

/// W of a wrongly ordered pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Misordered {
    /// `sqrt(1 − q)`, as the published code.
    Published,
    /// 0.
    Zero,
}
