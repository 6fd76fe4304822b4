//! S: the MOS among the responses' predictions.

use crate::Media;
use crate::counts::Counts;
use crate::parts::{Group, Part};

pub(crate) const PART: Part =
    Part { name: "rank", applies: |media| media == Media::Image, weight: |p| p.score_rank, values };

/// How close to the MOS a prediction must be, strictly, to earn 1 whatever its rank.
const EXACT: f64 = 0.02;

/// Eq. S in docs/method.md section 2.
fn values(group: &Group<'_>, _: &mut Counts) -> Vec<f64> {
    let samples = group.predictions.chunks(group.responses).zip(group.mos);
    samples
        .flat_map(|(predictions, &mos)| predictions.iter().map(move |&s| rank_reward(s, predictions, mos)))
        .collect()
}

/// `1` if |s − G| < 0.02, else `exp(−|rank(s) − rank(G)| / (K+1))`. Ranks ascend in f32; means equal to G
/// come before it, equal means share the place of the first.
fn rank_reward(s: f64, predictions: &[f64], mos: f64) -> f64 {
    if (s - mos).abs() < EXACT {
        return 1.0;
    }
    let mos = f64::from(mos as f32);
    let rank_mos = predictions.iter().filter(|&&p| p <= mos).count();
    let rank_s = predictions.iter().filter(|&&p| p < s).count() + usize::from(mos < s);
    (-(rank_s.abs_diff(rank_mos) as f64) / (predictions.len() + 1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_in_rank_to_the_mos_decides() {
        let predictions = [1.0, 2.0, 2.0, 4.0, 5.0];
        // Sorted with the MOS: 1, 2, 2, 3, 4, 5; the MOS has rank 3.
        let apart = |n: f64| (-n / 6.0).exp();
        let of = |s: f64| rank_reward(s, &predictions, 3.0);
        assert_eq!([of(1.0), of(2.0), of(4.0), of(5.0)], [apart(3.0), apart(2.0), apart(1.0), apart(2.0)]);
        assert_eq!(rank_reward(3.019, &[3.019, 3.0], 3.0), 1.0);
        assert_eq!(rank_reward(f64::INFINITY, &[f64::INFINITY; 2], 3.0), (-1.0f64 / 3.0).exp());
    }
}
