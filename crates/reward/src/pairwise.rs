//! W: samples ordered as people order them, rank by rank.

use std::cmp::Ordering;

use settings::Misordered;

use crate::counts::Counts;
use crate::parts::{Group, Part};

pub(crate) const PART: Part = Part { name: "pairwise", applies: |_| true, weight: |p| p.pairwise, values };

/// Eq. W in docs/method.md section 2; 0 for a sample without others.
fn values(group: &Group<'_>, counts: &mut Counts) -> Vec<f64> {
    let (samples, k) = (group.samples(), group.responses);
    let mut values = vec![0.0; group.predictions.len()];
    if samples < 2 {
        counts.without_pair += samples as u64;
        return values;
    }
    let ranked: Vec<Vec<usize>> = group.predictions.chunks(k).map(ascending).collect();
    for i in 0..samples {
        for rank in 0..k {
            let mut sum = 0.0;
            for z in (0..samples).filter(|&z| z != i) {
                let at = |sample: usize| group.prediction(sample, ranked[sample][rank]);
                let pair = Pair { s: [at(i), at(z)], g: [group.mos[i], group.mos[z]] };
                counts.degenerate_pairs += u64::from(pair.is_degenerate());
                sum += pair.reward(group.settings.misordered);
            }
            values[i * k + ranked[i][rank]] = sum / (samples - 1) as f64;
        }
    }
    values
}

/// Indices by value; equal values keep their order.
pub(crate) fn ascending(predictions: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..predictions.len()).collect();
    order.sort_by(|&a, &b| predictions[a].partial_cmp(&predictions[b]).unwrap_or(Ordering::Equal));
    order
}

/// Two responses of the same rank, their predictions s and MOS g.
struct Pair {
    s: [f64; 2],
    g: [f64; 2],
}

impl Pair {
    /// d + |s_i − G_i| + |s_z − G_z|.
    fn denominator(&self) -> f64 {
        self.distance() + (self.s[0] - self.g[0]).abs() + (self.s[1] - self.g[1]).abs()
    }

    fn distance(&self) -> f64 {
        (self.g[0] - self.g[1]).abs()
    }

    /// d = 0 and both predictions exact: the published code divides 0 by 0.
    fn is_degenerate(&self) -> bool {
        self.denominator() == 0.0
    }

    fn q(&self) -> f64 {
        if self.is_degenerate() { 1.0 } else { self.distance() / self.denominator() }
    }

    /// `sqrt(c·q) + sqrt((1−c)(1−q))`. Order by comparison: the difference of two infinities is NaN.
    fn reward(&self, misordered: Misordered) -> f64 {
        let ordered = self.s[0].partial_cmp(&self.s[1]) == self.g[0].partial_cmp(&self.g[1]);
        match (ordered, misordered) {
            (true, _) => self.q().sqrt(),
            (false, Misordered::Published) => (1.0 - self.q()).sqrt(),
            (false, Misordered::Zero) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reward(s: [f64; 2], g: [f64; 2]) -> f64 {
        Pair { s, g }.reward(Misordered::Published)
    }

    #[test]
    fn exact_predictions_of_a_pair_earn_one_and_a_tie_for_unequal_mos_is_misordered() {
        assert_eq!(reward([2.0, 4.0], [2.0, 4.0]), 1.0);
        assert_eq!(reward([3.0, 3.0], [3.0, 3.0]), 1.0);
        assert!((reward([3.0, 3.0], [2.0, 4.0]) - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(reward([3.0, 2.0], [2.5, 2.5]), 1.0);
        assert_eq!(reward([3.0, 3.0], [2.5, 2.5]), 0.0);
        assert_eq!(Pair { s: [4.0, 2.0], g: [1.0, 2.0] }.reward(Misordered::Zero), 0.0);
    }

    #[test]
    fn infinite_predictions_are_ordered_too() {
        let inf = f64::INFINITY;
        assert_eq!(reward([inf, inf], [2.0, 4.0]), 1.0);
        assert_eq!(reward([inf, inf], [2.0, 2.0]), 0.0);
        assert_eq!(reward([inf, 1.0], [4.0, 2.0]), 0.0);
        assert_eq!(reward([inf, -inf], [2.0, 4.0]), 1.0);
    }
}
