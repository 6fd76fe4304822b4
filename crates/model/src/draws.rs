//! Counter-based randomness: a response's draws depend on its name alone, never on what it is batched with.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// What names all draws of a rollout, before the sample and the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrawKey {
    /// The run's.
    pub seed: u64,
    /// Stage of the run.
    pub stage: u32,
    /// Step of the stage.
    pub step: u64,
    /// Attempt at the step.
    pub attempt: u32,
}

impl DrawKey {
    /// `tokens` draws in [0, 1) for one response: the i-th decides its i-th token.
    #[must_use]
    pub fn draws(&self, sample: &str, response: u32, tokens: usize) -> Vec<f64> {
        let mut hash = Sha256::new();
        hash.update(b"rollout");
        for number in [self.seed, self.stage.into(), self.step, self.attempt.into(), response.into()] {
            hash.update(number.to_le_bytes());
        }
        hash.update(sample);
        let mut stream = ChaCha8Rng::from_seed(hash.finalize().into());
        (0..tokens).map(|_| (stream.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_name_changes_the_draws() {
        let key = DrawKey { seed: 1, stage: 2, step: 3, attempt: 4 };
        let base = key.draws("a", 0, 4);
        assert_eq!(base, key.draws("a", 0, 4));
        for other in [
            DrawKey { seed: 9, ..key }.draws("a", 0, 4),
            DrawKey { stage: 9, ..key }.draws("a", 0, 4),
            DrawKey { step: 9, ..key }.draws("a", 0, 4),
            DrawKey { attempt: 9, ..key }.draws("a", 0, 4),
            key.draws("b", 0, 4),
            key.draws("a", 1, 4),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_longer_response_begins_with_the_same_draws() {
        let key = DrawKey::default();
        assert_eq!(key.draws("a", 0, 3), key.draws("a", 0, 9)[..3]);
    }

    #[test]
    fn draws_are_uniform() {
        let draws = DrawKey::default().draws("a", 0, 10_000);
        assert!(draws.iter().all(|d| (0.0..1.0).contains(d)));
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        // Standard deviation of the mean: 0.0029.
        assert!((mean - 0.5).abs() < 0.012, "{mean}");
    }
}
