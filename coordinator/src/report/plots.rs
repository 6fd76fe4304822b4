//! Answers against labels: scatter and histogram.

use super::AnswerLine;
use super::axis::Axis;
use super::panel::{Panel, SIZE, Words, cell};
use super::svg::{BLUE, FAINT, MUTED, ORANGE, Stroke, Svg};

/// Dots beyond which every n-th answer is drawn.
const MOST: usize = 3000;

/// Scores and labels lie in [1, 5]; bins of a quarter.
const BINS: usize = 16;

/// Predicted against true, before (where there are such answers) and after, and how both are spread; `None`
/// where no answer has a score.
pub(super) fn draw(before: &[AnswerLine], after: &[AnswerLine]) -> Option<String> {
    let (before, after) = (pairs(before), pairs(after));
    let scatters: Vec<_> = [("Before training", &before, MUTED), ("After training", &after, BLUE)]
        .into_iter()
        .filter(|(_, pairs, _)| !pairs.is_empty())
        .collect();
    let last = scatters.last().map(|(_, pairs, _)| *pairs)?;
    // A wild prediction shall not squeeze all others into a corner: it is left out of the picture.
    let axis = Axis::around(std::iter::once(1.0).chain(std::iter::once(5.0)), 4)?;
    let columns = scatters.len() + 1;
    let mut svg = Svg::new(columns as f64 * SIZE.0, SIZE.1, "Predicted scores against mean opinion scores");
    for (i, (title, pairs, color)) in scatters.iter().enumerate() {
        let outside =
            pairs.iter().filter(|(x, y)| axis.share(*x).is_none() || axis.share(*y).is_none()).count();
        let legend = if outside > 0 { vec![(format!("{outside} outside"), MUTED)] } else { Vec::new() };
        let words = Words { title, x: "mean opinion score", y: "predicted", legend };
        let panel = Panel::draw(&mut svg, cell(i, columns), axis.clone(), axis.clone(), &words);
        panel.line(&mut svg, &[(1.0, 1.0), (5.0, 5.0)], Stroke { color: MUTED, width: 0.8, dashed: true });
        let each = pairs.len().div_ceil(MOST).max(1);
        let drawn: Vec<_> = pairs.iter().step_by(each).copied().collect();
        panel.dots(&mut svg, &drawn, 2.4, color, 0.4);
    }
    histogram(&mut svg, cell(scatters.len(), columns), &axis, last);
    Some(svg.finish())
}

/// Labels as bars, predictions as steps over them.
fn histogram(svg: &mut Svg, origin: (f64, f64), x: &Axis, pairs: &[(f64, f64)]) {
    let labels = counts(pairs.iter().map(|p| p.0));
    let predictions = counts(pairs.iter().map(|p| p.1));
    let Some(y) = Axis::around(labels.iter().chain(&predictions).copied().chain([0.0]), 4) else { return };
    let legend = vec![("labels".to_owned(), FAINT), ("predictions".to_owned(), ORANGE)];
    let words = Words { title: "Scores", x: "score", y: "answers", legend };
    let panel = Panel::draw(svg, origin, x.clone(), y, &words);
    let edge = |bin: usize| 1.0 + 4.0 * bin as f64 / BINS as f64;
    for (bin, count) in labels.iter().enumerate() {
        panel.bar(svg, (edge(bin), edge(bin + 1)), *count, FAINT);
    }
    let ends = [(edge(0), 0.0)];
    let steps = predictions.iter().enumerate().flat_map(|(bin, n)| [(edge(bin), *n), (edge(bin + 1), *n)]);
    let outline: Vec<_> = ends.into_iter().chain(steps).chain([(edge(BINS), 0.0)]).collect();
    panel.line(svg, &outline, Stroke { color: ORANGE, width: 1.8, dashed: false });
}

fn counts(values: impl Iterator<Item = f64>) -> [f64; BINS] {
    let mut bins = [0.0; BINS];
    for value in values.filter(|v| (1.0..=5.0).contains(v)) {
        let bin = ((value - 1.0) / 4.0 * BINS as f64) as usize;
        bins[bin.min(BINS - 1)] += 1.0;
    }
    bins
}

/// (label, prediction) of the answers that have both.
fn pairs(answers: &[AnswerLine]) -> Vec<(f64, f64)> {
    let scored = answers.iter().filter_map(|a| Some((a.mos, a.predicted?)));
    scored.filter(|(mos, predicted)| mos.is_finite() && predicted.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn answers_without_a_score_draw_nothing() {
        let mut answers = example::answers(2);
        answers[0].predicted = None;
        answers[1].predicted = Some(f64::NAN);
        assert_eq!(draw(&[], &answers), None);
    }

    #[test]
    fn a_prediction_beyond_the_scale_is_counted_not_drawn() {
        let mut answers = example::answers(4);
        answers[1].predicted = Some(1e30);
        let picture = draw(&answers, &answers[2..]).expect("a picture");
        assert_eq!(picture.matches("1 outside</text>").count(), 1);
    }

    #[test]
    fn the_ends_of_the_scale_fall_into_the_outer_bins() {
        let bins = counts([1.0, 5.0, 4.99, f64::NAN, 0.0, 9.0].into_iter());
        assert_eq!((bins[0], bins[BINS - 1], bins.iter().sum::<f64>()), (1.0, 2.0, 3.0));
    }
}
