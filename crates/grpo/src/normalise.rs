//! What a step's token losses are divided by: counts over all ranks, never per rank.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use settings::LossForm;

/// What a step trains on, over all ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Samples (prompts).
    pub samples: u64,
    /// Completions of all samples.
    pub completions: u64,
    /// Trained tokens of all completions ([`crate::trained_tokens`]).
    pub tokens: u64,
}

impl Counts {
    /// Adds one sample with the trained tokens of each of its completions.
    pub fn add_sample(&mut self, completion_tokens: impl IntoIterator<Item = u64>) {
        self.samples += 1;
        for tokens in completion_tokens {
            self.completions += 1;
            self.tokens += tokens;
        }
    }

    /// The factor of one token's loss in the step's loss, which is then a plain sum over all ranks.
    ///
    /// `sequence_mean`: 1 / (this completion's trained tokens × completions); `token_mean`: 1 / tokens;
    /// `fixed_length`: 1 / (completions × `max_new_tokens`). 0 where nothing is counted.
    #[must_use]
    pub fn token_weight(&self, form: LossForm, completion_tokens: u64, max_new_tokens: u32) -> f64 {
        let divisor = match form {
            LossForm::SequenceMean => completion_tokens as f64 * self.completions as f64,
            LossForm::TokenMean => self.tokens as f64,
            LossForm::FixedLength => self.completions as f64 * f64::from(max_new_tokens),
        };
        if divisor == 0.0 { 0.0 } else { 1.0 / divisor }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.completions += other.completions;
        self.tokens += other.tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token losses of three completions with 1, 2 and 4 tokens.
    const LOSSES: [&[f64]; 3] = [&[6.0], &[1.0, 3.0], &[4.0, 0.0, 2.0, 2.0]];

    fn step_loss(form: LossForm) -> f64 {
        let mut counts = Counts::default();
        counts.add_sample([1, 2]);
        let mut other_rank = Counts::default();
        other_rank.add_sample([4]);
        counts += other_rank;
        assert_eq!(counts, Counts { samples: 2, completions: 3, tokens: 7 });
        LOSSES
            .iter()
            .flat_map(|c| c.iter().map(move |l| l * counts.token_weight(form, c.len() as u64, 8)))
            .sum()
    }

    #[test]
    fn each_form_divides_by_its_own_count() {
        assert!((step_loss(LossForm::SequenceMean) - (6.0 + 2.0 + 2.0) / 3.0).abs() < 1e-12);
        assert!((step_loss(LossForm::TokenMean) - 18.0 / 7.0).abs() < 1e-12);
        assert!((step_loss(LossForm::FixedLength) - 18.0 / 24.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_step_weighs_nothing() {
        for form in [LossForm::SequenceMean, LossForm::TokenMean, LossForm::FixedLength] {
            assert_eq!(Counts::default().token_weight(form, 0, 256), 0.0);
        }
    }
}
