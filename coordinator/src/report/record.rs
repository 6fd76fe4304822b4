//! The lines that a run leaves behind: one a step, one an evaluation, one an answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{EvaluationSet, Moment};

/// A committed step, a line of `metrics.jsonl`. Numbers that are not finite are written as `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Counted over all stages; 1 is the first.
    pub step: u64,
    /// Index of the stage.
    pub stage: usize,
    /// Within the stage; 1 is the first.
    pub number: u64,
    /// The learning rate.
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    /// The loss, as the stage's objective defines it.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Of all gradients together, before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Loss and gradients were finite on every rank.
    pub finite: bool,
    /// Committed without being applied.
    pub skipped: bool,
    /// From plan to commit.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Name to value: reward, accuracy, format, the means of the reward's parts, kl, tokens, zero_spread, ….
    #[serde(deserialize_with = "numbers")]
    pub metrics: BTreeMap<String, f64>,
}

/// An evaluation, a line of `evaluations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    /// The newest committed step; 0: none yet.
    pub step: u64,
    /// Index of the stage.
    pub stage: usize,
    /// Which sets.
    #[serde(with = "SetName")]
    pub set: EvaluationSet,
    /// When in the stage.
    #[serde(with = "MomentName")]
    pub moment: Moment,
    /// How many samples were asked about.
    pub samples: u64,
    /// Name to value: srcc, plcc, plcc_logistic, krcc, rmse, format, reward, distinct_scores, ….
    #[serde(deserialize_with = "numbers")]
    pub metrics: BTreeMap<String, f64>,
    /// From plan to score.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
}

/// An answer to a held-out question, a line of `completions.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerLine {
    /// Which sets.
    #[serde(with = "SetName")]
    pub set: EvaluationSet,
    /// The newest committed step.
    pub step: u64,
    /// The manifest's id.
    pub sample_id: String,
    /// The picture files, or the video.
    #[serde(default)]
    pub media: Vec<String>,
    /// Mean opinion score, on the recipe's scale of [1, 5].
    #[serde(deserialize_with = "number")]
    pub mos: f64,
    /// The predicted score; `None` where the text holds none.
    pub predicted: Option<f64>,
    /// The text is in the asked format.
    pub format: bool,
    /// The completion, without special tokens.
    pub text: String,
}

/// The set by its name, for `#[serde(with = "SetName")]`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "EvaluationSet", rename_all = "lowercase")]
pub(super) enum SetName {
    Validation,
    Test,
}

/// The moment by its name.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Moment", rename_all = "lowercase")]
enum MomentName {
    Before,
    During,
    After,
}

/// JSON has no NaN: it is written as `null`, and read back.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// [`number`] for every value of a map.
fn numbers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let raw = BTreeMap::<String, Option<f64>>::deserialize(from)?;
    Ok(raw.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_number_that_is_not_finite_comes_back_as_nan() {
        let mut line = example::step(3, 0);
        line.loss = f64::INFINITY;
        line.metrics.insert("kl".into(), f64::NAN);
        let text = serde_json::to_string(&line).expect("written");
        let back: StepLine = serde_json::from_str(&text).expect("read");
        assert!(back.loss.is_nan() && back.metrics["kl"].is_nan());
        assert_eq!(back.grad_norm, line.grad_norm);
    }

    #[test]
    fn sets_and_moments_are_written_as_people_say_them() {
        let text = serde_json::to_string(&example::evaluation(4, EvaluationSet::Test, Moment::During))
            .expect("written");
        assert!(text.contains(r#""set":"test","moment":"during""#), "{text}");
        assert!(serde_json::from_str::<EvaluationLine>(&text.replace("during", "later")).is_err());
    }
}
