//! Draws that are the same on every machine.

use std::sync::OnceLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of draws named by a seed and up to three numbers (a purpose, a kind, a level, …).
#[derive(Clone, Debug)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// The stream of `seed` with this name; other names give independent streams.
    pub fn new(seed: u64, name: [u64; 3]) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, name[0], name[1], name[2]]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform over all 64-bit numbers.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform over 0 to `bound` − 1; 0 where `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// Uniform in [0, 1), in steps of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Fills `out` with uniform 16-bit numbers.
    pub(crate) fn halves(&mut self, out: &mut [u16]) {
        for pair in out.chunks_mut(4) {
            let word = self.0.next_u64();
            for (half, value) in pair.iter_mut().enumerate() {
                *value = (word >> (16 * half)) as u16;
            }
        }
    }

    /// Fills `out` with uniform 32-bit numbers.
    pub(crate) fn quarters(&mut self, out: &mut [u32]) {
        for value in out {
            *value = self.0.next_u32();
        }
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u32 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// Standard normal values at the 65,536 centres of equal probability: a uniform 16-bit number is a normal draw (within
/// ±4.3; the variance is 0.9999). A table costs nothing a draw and is the same everywhere.
pub(crate) fn normal_table() -> &'static [f32] {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        (0..1_u32 << 16)
            .map(|i| {
                let value = normal_quantile((f64::from(i) + 0.5) / 65_536.0);
                // Coarser than what two machines' logarithms differ by.
                ((value * 65_536.0).round() / 65_536.0) as f32
            })
            .collect()
    })
}

/// The inverse of the standard normal distribution function for 1e-10 < p < 1 − 1e-10, relative error 1e-16
/// (Wichura's algorithm AS 241, Applied Statistics 37, 1988).
fn normal_quantile(p: f64) -> f64 {
    let ratio = |top: &[f64; 8], bottom: &[f64; 8], x: f64| {
        let horner = |coefficients: &[f64; 8]| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
        horner(top) / horner(bottom)
    };
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(&CENTRE_TOP, &CENTRE_BOTTOM, 0.180_625 - q * q);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    ratio(&TAIL_TOP, &TAIL_BOTTOM, r - 1.6).copysign(q)
}

const CENTRE_TOP: [f64; 8] = [
    2.509_080_928_730_122_7e3,
    3.343_057_558_358_813e4,
    6.726_577_092_700_87e4,
    4.592_195_393_154_987e4,
    1.373_169_376_550_946e4,
    1.971_590_950_306_551_3e3,
    1.331_416_678_917_843_8e2,
    3.387_132_872_796_366_5,
];
const CENTRE_BOTTOM: [f64; 8] = [
    5.226_495_278_852_854e3,
    2.872_908_573_572_194_3e4,
    3.930_789_580_009_271e4,
    2.121_379_430_158_659_7e4,
    5.394_196_021_424_751e3,
    6.871_870_074_920_579e2,
    4.231_333_070_160_091e1,
    1.0,
];
const TAIL_TOP: [f64; 8] = [
    7.745_450_142_783_414e-4,
    2.272_384_498_926_918_4e-2,
    2.417_807_251_774_506e-1,
    1.270_458_252_452_368_4,
    3.647_848_324_763_204_5,
    5.769_497_221_460_691,
    4.630_337_846_156_546,
    1.423_437_110_749_683_5,
];
const TAIL_BOTTOM: [f64; 8] = [
    1.050_750_071_644_416_9e-9,
    5.475_938_084_995_345e-4,
    1.519_866_656_361_645_7e-2,
    1.481_039_764_274_800_8e-1,
    6.897_673_349_851e-1,
    1.676_384_830_183_803_8,
    2.053_191_626_637_759,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::{Draws, normal_quantile, normal_table};

    #[test]
    fn streams_are_the_recorded_ones_and_differ_by_name() {
        let mut draws = Draws::new(7, [1, 2, 3]);
        assert_eq!([draws.word(), draws.word()], RECORDED);
        assert_ne!(Draws::new(7, [1, 2, 4]).word(), RECORDED[0]);
        assert_eq!(Draws::new(7, [1, 2, 3]).below(0), 0);
    }

    // Recorded from the first version: a change of them changes every data set made.
    const RECORDED: [u64; 2] = [2_956_225_752_903_667_786, 3_513_846_730_465_924_041];

    #[test]
    fn quantiles_are_those_of_pythons_statistics() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.01, -2.326_347_874_040_840_8),
            (7.629_394_531_25e-6, -4.324_919_040_826_044),
        ] {
            assert!((normal_quantile(p) - expected).abs() < 1e-8, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn the_normal_table_has_mean_zero_and_variance_one() {
        let values = normal_table().iter().map(|&v| f64::from(v));
        let n = 65_536.0;
        let mean = values.clone().sum::<f64>() / n;
        let variance = values.map(|v| v * v).sum::<f64>() / n;
        assert!(mean.abs() < 1e-6, "{mean}");
        assert!((variance - 1.0).abs() < 5e-4, "{variance}");
    }
}
