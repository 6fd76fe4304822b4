//! Numbers over steps, cut where they must not be joined.

use std::collections::BTreeMap;

use super::{Lines, StepLine};

/// Points to be joined by a line: (step, value), values finite.
pub(super) type Piece = Vec<(f64, f64)>;

/// Points beyond which a piece is thinned: more than a panel has pixels.
const MOST: usize = 400;

/// A step's value by name: `loss`, `grad_norm`, `lr` or a metric's.
pub(super) fn value(line: &StepLine, name: &str) -> Option<f64> {
    match name {
        "loss" => Some(line.loss),
        "grad_norm" => Some(line.grad_norm),
        "lr" => Some(line.lr),
        _ => line.metrics.get(name).copied(),
    }
    .filter(|v| v.is_finite())
}

/// A name's values, one list a stage that has any: stages have different losses and rewards.
pub(super) fn by_stage(lines: &Lines, name: &str) -> Vec<Piece> {
    let mut stages = BTreeMap::<usize, Piece>::new();
    for line in &lines.steps {
        if let Some(value) = value(line, name) {
            stages.entry(line.stage).or_default().push((line.step as f64, value));
        }
    }
    stages.into_values().collect()
}

/// Mean over the last `window` values of each point; the first points have fewer.
pub(super) fn trailing_mean(piece: &[(f64, f64)], window: usize) -> Piece {
    let from = |i: usize| (i + 1).saturating_sub(window.max(1));
    piece.iter().enumerate().map(|(i, (step, _))| (*step, mean(&piece[from(i)..=i]))).collect()
}

/// A fifteenth of the steps, at least 5 and at most 50.
pub(super) fn window(steps: usize) -> usize {
    (steps / 15).clamp(5, 50)
}

/// At most [`MOST`] points: neighbours become their mean.
pub(super) fn thinned(piece: &[(f64, f64)]) -> Piece {
    let each = piece.len().div_ceil(MOST).max(1);
    piece.chunks(each).map(|c| (c[c.len() / 2].0, mean(c))).collect()
}

/// Of the values; each is divided before it is added, so that large ones stay finite.
fn mean(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    points.iter().map(|(_, v)| v / n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_stages_values_are_never_joined_with_anothers() {
        let mut steps: Vec<_> = (1..=6).map(|s| example::step(s, usize::from(s > 4))).collect();
        steps[1].loss = f64::NAN;
        let pieces = by_stage(&Lines { steps, ..Lines::default() }, "loss");
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(pieces[1][0].0, 5.0);
    }

    #[test]
    fn a_trailing_mean_knows_nothing_of_later_steps() {
        let piece = [(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)];
        assert_eq!(trailing_mean(&piece, 2), [(1.0, 2.0), (2.0, 3.0), (3.0, 6.5)]);
    }

    #[test]
    fn a_long_piece_is_thinned_to_its_means() {
        let piece: Piece = (0..4000).map(|i| (f64::from(i), f64::from(i % 10))).collect();
        let thin = thinned(&piece);
        assert_eq!(thin.len(), MOST);
        assert!(thin.iter().all(|(_, v)| (v - 4.5).abs() < 1e-9));
        assert_eq!(thinned(&piece[..7]), piece[..7]);
    }
}
