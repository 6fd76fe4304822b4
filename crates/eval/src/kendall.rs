//! KRCC: Kendall's τ-b in n log n (Knight, 1966).

use crate::Pair;

/// Kendall's τ-b, −1 to 1. `None` for fewer than two pairs or where either side is constant.
#[must_use]
pub fn krcc(pairs: &[Pair]) -> Option<f64> {
    // Adding 0 makes one zero of the two signs, which the sort would tell apart.
    let one_zero = |p: &Pair| Pair { prediction: p.prediction + 0.0, label: p.label + 0.0 };
    let mut sorted: Vec<Pair> = pairs.iter().map(one_zero).collect();
    sorted.sort_by(|a, b| a.prediction.total_cmp(&b.prediction).then(a.label.total_cmp(&b.label)));
    let n = pairs.len() as u64;
    let all = n * n.saturating_sub(1) / 2;
    let tied_x = tied_pairs(sorted.chunk_by(|a, b| a.prediction == b.prediction));
    let tied_both = tied_pairs(sorted.chunk_by(|a, b| a.prediction == b.prediction && a.label == b.label));
    let mut labels: Vec<f64> = sorted.iter().map(|p| p.label).collect();
    let discordant = inversions(&mut labels);
    let tied_y = tied_pairs(labels.chunk_by(|a, b| a == b));
    if all == tied_x || all == tied_y {
        return None;
    }
    // Every pair is concordant, discordant or tied on a side.
    let balance = (all + tied_both) as f64 - tied_x as f64 - tied_y as f64 - 2.0 * discordant as f64;
    Some(balance / ((all - tied_x) as f64 * (all - tied_y) as f64).sqrt())
}

/// Number of pairs within runs.
fn tied_pairs<'a, T: 'a>(runs: impl Iterator<Item = &'a [T]>) -> u64 {
    runs.map(|run| run.len() as u64 * (run.len() as u64 - 1) / 2).sum()
}

/// Sorts, and counts the pairs that were out of order.
fn inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if right[j] < left[i] {
            count += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        } else {
            merged.push(left[i]);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    values.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::tests::{example, pairs};
    use proptest::prelude::*;

    /// The definition, pair by pair.
    fn by_pairs(pairs: &[Pair]) -> Option<f64> {
        let (mut balance, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
        let sign = |a: f64, b: f64| f64::from(i8::from(a > b) - i8::from(a < b));
        for (i, a) in pairs.iter().enumerate() {
            for b in &pairs[..i] {
                let (x, y) = (sign(a.prediction, b.prediction), sign(a.label, b.label));
                balance += x * y;
                untied_x += x * x;
                untied_y += y * y;
            }
        }
        let denominator: f64 = untied_x * untied_y;
        (denominator > 0.0).then(|| balance / denominator.sqrt())
    }

    #[test]
    fn tau_b_agrees_with_scipy() {
        let tau = krcc(&example()).expect("an order");
        assert!((tau - 0.7356807837947247).abs() < 1e-12, "{tau}");
    }

    #[test]
    fn a_constant_has_no_order() {
        assert_eq!(krcc(&pairs(&[1.0, 1.0], &[1.0, 2.0])), None);
        assert_eq!(krcc(&pairs(&[1.0, 2.0], &[1.0, 1.0])), None);
        assert_eq!(krcc(&[]), None);
        assert_eq!(
            krcc(&pairs(&[0.0, -0.0, 1.0], &[1.0, 2.0, 2.0])),
            by_pairs(&pairs(&[0.0, 0.0, 1.0], &[1.0, 2.0, 2.0]))
        );
    }

    proptest! {
        #[test]
        fn counting_inversions_equals_counting_pairs(
            values in prop::collection::vec((0i32..6, 0i32..6), 0..40)
        ) {
            let pairs: Vec<Pair> = values
                .into_iter()
                .map(|(x, y)| Pair { prediction: f64::from(x), label: f64::from(y) })
                .collect();
            match (krcc(&pairs), by_pairs(&pairs)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12, "{a} {b}"),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}
