//! Seeded draws: the same everywhere, for a purpose and its circumstances.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of draws that depends on what it was made from and on nothing else.
#[derive(Clone, Debug)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// The stream for a purpose ("plan", "prompt", …), numbers (seed, stage, step, …) and a text (a sample's
    /// id). Streams that differ in any of them are independent.
    #[must_use]
    pub fn new(purpose: &str, numbers: &[u64], text: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((purpose.len() as u64).to_le_bytes());
        hash.update(purpose);
        hash.update((numbers.len() as u64).to_le_bytes());
        for number in numbers {
            hash.update(number.to_le_bytes());
        }
        hash.update(text);
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// Uniform over all 64-bit numbers.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform over `0..n`, without bias; 0 for `n` of 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        // Draws beyond the last whole multiple of n would favour small results.
        let reject_from = u64::MAX - (u64::MAX % n + 1) % n;
        loop {
            let draw = self.number();
            if draw <= reject_from {
                return (draw % n) as usize;
            }
        }
    }

    /// Every order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_purpose_numbers_and_text() {
        let first = |purpose, numbers: &[u64], text| Draws::new(purpose, numbers, text).number();
        let one = first("a", &[1, 2], "x");
        assert_eq!(one, first("a", &[1, 2], "x"));
        for other in [
            first("b", &[1, 2], "x"),
            first("a", &[1, 3], "x"),
            first("a", &[1], "x"),
            first("a", &[1, 2], "y"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn draws_below_three_come_up_alike() {
        let mut draws = Draws::new("test", &[], "");
        let mut counts = [0; 3];
        for _ in 0..30_000 {
            counts[draws.below(3)] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!((draws.below(0), draws.below(1)), (0, 0));
    }

    #[test]
    fn a_shuffle_is_recorded() {
        let mut order: Vec<u32> = (0..8).collect();
        Draws::new("plan", &[7], "").shuffle(&mut order);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        assert_eq!(order, RECORDED, "a seed's order must never change between versions");
    }

    const RECORDED: [u32; 8] = [2, 5, 7, 4, 1, 0, 6, 3];
}
