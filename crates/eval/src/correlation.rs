//! SRCC, PLCC and RMSE.

use serde::{Deserialize, Serialize};

/// One sample: what the model says and what people say. Both finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Predicted quality.
    pub prediction: f64,
    /// Mean opinion score.
    pub label: f64,
}

impl Pair {
    pub(crate) fn columns(pairs: &[Self]) -> (Vec<f64>, Vec<f64>) {
        pairs.iter().map(|p| (p.prediction, p.label)).unzip()
    }
}

/// Pearson's correlation, −1 to 1. `None` for fewer than two pairs or where either side is constant.
#[must_use]
pub fn plcc(pairs: &[Pair]) -> Option<f64> {
    let (x, y) = Pair::columns(pairs);
    pearson(&x, &y)
}

/// Spearman's rank correlation, −1 to 1; equal values share their mean rank. `None` as for [`plcc`].
#[must_use]
pub fn srcc(pairs: &[Pair]) -> Option<f64> {
    let (x, y) = Pair::columns(pairs);
    pearson(&average_ranks(&x), &average_ranks(&y))
}

/// Root of the mean squared difference, in MOS units. `None` without pairs.
#[must_use]
pub fn rmse(pairs: &[Pair]) -> Option<f64> {
    let squares: f64 = pairs.iter().map(|p| (p.prediction - p.label).powi(2)).sum();
    (!pairs.is_empty()).then(|| (squares / pairs.len() as f64).sqrt())
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (deviations(x)?, deviations(y)?);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let r = dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt();
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Differences from the mean over the largest of them, so that no square overflows; `None` for a constant.
fn deviations(values: &[f64]) -> Option<Vec<f64>> {
    let first = *values.first()?;
    if values.iter().all(|&v| v == first) {
        return None;
    }
    let mean = values.iter().map(|v| v / values.len() as f64).sum::<f64>();
    let largest = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    Some(values.iter().map(|v| (v - mean) / largest).collect())
}

/// Ranks from 1; equal values share the mean of theirs.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + (tied.len() + 1) as f64 / 2.0;
        for &i in tied {
            ranks[i] = rank;
        }
        start += tied.len();
    }
    ranks
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn pairs(predictions: &[f64], labels: &[f64]) -> Vec<Pair> {
        assert_eq!(predictions.len(), labels.len());
        predictions.iter().zip(labels).map(|(&prediction, &label)| Pair { prediction, label }).collect()
    }

    /// Predictions and labels with ties; the expected values beside them are scipy 1.17's.
    pub(crate) fn example() -> Vec<Pair> {
        pairs(
            &[3.2, 1.1, 4.8, 2.5, 2.5, 3.9, 4.1, 1.9, 2.2, 3.3],
            &[3.0, 1.5, 4.6, 2.0, 3.1, 3.0, 4.4, 2.0, 1.2, 4.0],
        )
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    #[test]
    fn correlations_agree_with_scipy() {
        assert!(close(srcc(&example()), 0.8654474719182605), "{:?}", srcc(&example()));
        assert!(close(plcc(&example()), 0.8695202682363999), "{:?}", plcc(&example()));
        assert!(close(rmse(&example()), 0.5700877125495691), "{:?}", rmse(&example()));
    }

    #[test]
    fn a_constant_or_a_single_pair_has_no_correlation() {
        for p in [pairs(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]), pairs(&[1.0], &[1.0]), Vec::new()] {
            assert_eq!(plcc(&p), None, "{p:?}");
            assert_eq!(srcc(&p), None, "{p:?}");
        }
        assert_eq!(rmse(&[]), None);
    }

    #[test]
    fn equal_values_share_their_mean_rank() {
        assert_eq!(average_ranks(&[2.0, 1.0, 2.0, 2.0, 5.0, 0.0, -0.0]), [5.0, 3.0, 5.0, 5.0, 7.0, 1.5, 1.5]);
    }

    #[test]
    fn values_of_any_size_have_a_correlation() {
        assert!(close(plcc(&pairs(&[1e300, 2e300, 3e300], &[1.0, 2.0, 3.0])), 1.0));
        assert!(close(plcc(&pairs(&[1e-300, 2e-300, 3e-300], &[3.0, 2.0, 1.0])), -1.0));
    }

    proptest! {
        #[test]
        fn correlations_do_not_change_under_a_rising_line(
            values in prop::collection::vec((1.0f64..5.0, 1.0f64..5.0), 3..30), scale in 0.1f64..10.0
        ) {
            let (x, y): (Vec<f64>, Vec<f64>) = values.into_iter().unzip();
            let moved: Vec<f64> = x.iter().map(|v| scale * v - 7.0).collect();
            let (before, after) = (pairs(&x, &y), pairs(&moved, &y));
            let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-9 && a.abs() <= 1.0,
                (a, b) => a == b,
            };
            prop_assert!(same(plcc(&before), plcc(&after)));
            prop_assert!(same(srcc(&before), srcc(&after)));
        }
    }
}
