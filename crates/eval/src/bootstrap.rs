//! Percentile intervals from resampled pairs. Draws are a function of (seed, draw, position): no state, no clock.

use serde::{Deserialize, Serialize};

use crate::Pair;

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Resampled sets.
    pub draws: u32,
    /// Same seed, same interval.
    pub seed: u64,
    /// Share of the draws inside the interval, e.g. 0.95.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 1000, seed: 0, level: 0.95 }
    }
}

/// A percentile interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Draws on which the statistic was undefined, left out.
    pub undefined: u32,
}

/// One sample under two models, for a comparison on the same resampled sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Mean opinion score.
    pub label: f64,
    /// What the first model says.
    pub first: f64,
    /// What the second model says.
    pub second: f64,
}

impl Bootstrap {
    /// The interval of a statistic over the pairs. `None` where it is undefined on every draw.
    #[must_use]
    pub fn interval(&self, pairs: &[Pair], statistic: impl Fn(&[Pair]) -> Option<f64>) -> Option<Interval> {
        self.percentiles(pairs, statistic)
    }

    /// The interval of statistic(first) − statistic(second), both over the same resampled samples.
    #[must_use]
    pub fn difference(
        &self,
        samples: &[Paired],
        statistic: impl Fn(&[Pair]) -> Option<f64>,
    ) -> Option<Interval> {
        let of = |drawn: &[Paired], model: fn(&Paired) -> f64| {
            let pairs: Vec<Pair> =
                drawn.iter().map(|p| Pair { prediction: model(p), label: p.label }).collect();
            statistic(&pairs)
        };
        self.percentiles(samples, |drawn| Some(of(drawn, |p| p.first)? - of(drawn, |p| p.second)?))
    }

    fn percentiles<T: Copy>(&self, items: &[T], value: impl Fn(&[T]) -> Option<f64>) -> Option<Interval> {
        let n = items.len();
        let mut values = Vec::new();
        let mut drawn = Vec::with_capacity(n);
        for draw in 0..self.draws {
            drawn.clear();
            drawn.extend((0..n).map(|at| items[self.index(draw, at, n)]));
            values.extend(value(&drawn).filter(|v| v.is_finite()));
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level.clamp(0.0, 1.0)) / 2.0;
        let undefined = self.draws - values.len() as u32;
        Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)?, undefined })
    }

    /// An index below n.
    fn index(&self, draw: u32, at: usize, n: usize) -> usize {
        let bits = mix(mix(mix(self.seed) ^ u64::from(draw)) ^ at as u64);
        ((u128::from(bits) * n as u128) >> 64) as usize
    }
}

/// SplitMix64's finaliser over its increment.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Linear between the two nearest sorted values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::tests::{example, pairs};
    use crate::{plcc, srcc};

    #[test]
    fn the_same_seed_gives_the_same_interval_and_another_seed_another() {
        let with = |seed| Bootstrap { seed, ..Bootstrap::default() }.interval(&example(), srcc);
        assert_eq!(with(3), with(3));
        assert_ne!(with(3), with(4));
    }

    #[test]
    fn the_interval_of_the_mean_is_as_wide_as_its_standard_error_says() {
        // Uniform on 0..1: standard error of the mean of 300 is 0.01667, of which ±1.96 is the interval.
        let values: Vec<f64> = (0..300).map(|i| (f64::from(i) + 0.5) / 300.0).collect();
        let mean = |p: &[Pair]| Some(p.iter().map(|p| p.label).sum::<f64>() / p.len() as f64);
        let interval = Bootstrap::default().interval(&pairs(&values, &values), mean).expect("an interval");
        assert!((interval.low - (0.5 - 0.0327)).abs() < 0.004, "{interval:?}");
        assert!((interval.high - (0.5 + 0.0327)).abs() < 0.004, "{interval:?}");
    }

    #[test]
    fn undefined_draws_are_counted_and_nothing_defined_is_no_interval() {
        let two = pairs(&[1.0, 2.0], &[1.0, 2.0]);
        let interval = Bootstrap::default().interval(&two, plcc).expect("an interval");
        assert!((400..600).contains(&interval.undefined), "{interval:?}");
        assert_eq!((interval.low, interval.high), (1.0, 1.0));
        assert_eq!(Bootstrap::default().interval(&pairs(&[1.0; 3], &[1.0; 3]), plcc), None);
        assert_eq!(Bootstrap::default().interval(&[], plcc), None);
    }

    #[test]
    fn the_same_predictions_differ_by_nothing_and_better_ones_by_more_than_nothing() {
        let compared = |second: fn(usize, &Pair) -> f64| {
            let pairs: Vec<Pair> =
                (0..40).map(|i| Pair { prediction: f64::from(i), label: f64::from(i) }).collect();
            let samples: Vec<Paired> = pairs
                .iter()
                .enumerate()
                .map(|(i, p)| Paired { label: p.label, first: p.prediction, second: second(i, p) })
                .collect();
            Bootstrap::default().difference(&samples, srcc).expect("an interval")
        };
        let same = compared(|_, p| p.prediction);
        assert_eq!((same.low, same.high), (0.0, 0.0));
        let better = compared(|i, p| if i % 3 == 0 { -p.prediction } else { p.prediction });
        assert!(better.low > 0.0, "{better:?}");
    }
}
