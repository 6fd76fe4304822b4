//! P: answers whose aspects are all alike cost something.

use crate::counts::Counts;
use crate::parts::{Group, Part};

pub(crate) const PART: Part = Part {
    name: "std_penalty",
    applies: |_| true,
    // λ_std is inside the value; the sum takes it off.
    weight: |_| -1.0,
    values,
};

/// `λ_std · max(0, min_std − σ)`, eq. P in docs/method.md section 2.
fn values(group: &Group<'_>, _: &mut Counts) -> Vec<f64> {
    let settings = group.settings;
    let penalty = |v: &[f64]| settings.std_penalty * (settings.min_std - population_std(v)).max(0.0);
    group.scores.iter().map(|s| penalty(&s.values)).collect()
}

/// σ over n, never NaN: exactly 0 for equal scores, infinite where one is beyond f32's range.
///
/// The published code computes σ in f32 and takes no penalty where it overflows; neither do we.
fn population_std(v: &[f64]) -> f64 {
    let Some(&origin) = v.first() else { return 0.0 };
    if v.iter().any(|&x| (x as f32).is_infinite()) {
        return f64::INFINITY;
    }
    let n = v.len() as f64;
    let mean = v.iter().map(|x| x - origin).sum::<f64>() / n;
    (v.iter().map(|x| (x - origin - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_population_one_and_never_nan() {
        assert_eq!(population_std(&[1.0, 3.0]), 1.0);
        assert!((population_std(&[1.0, 2.0, 3.0, 4.0, 5.0]) - 2f64.sqrt()).abs() < 1e-15);
        assert_eq!(population_std(&[2e38; 5]), 0.0);
        assert_eq!(population_std(&[0.1; 5]), 0.0);
        assert!(population_std(&[3e38, -3e38]).is_finite());
        assert_eq!(population_std(&[1.1e39; 5]), f64::INFINITY);
        assert_eq!(population_std(&[f64::INFINITY, f64::NEG_INFINITY]), f64::INFINITY);
    }
}
