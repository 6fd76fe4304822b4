//! The run's curves over its steps, small multiples in one SVG.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::axis::Axis;
use super::panel::{Panel, SIZE, Words, cell};
use super::series::{Piece, by_stage, thinned, trailing_mean, window};
use super::svg::{BLUE, FAINT, Font, MUTED, ORANGE, RED, Stroke, Svg};
use super::table::label;
use super::{Facts, Lines};
use crate::engine::EvaluationSet;

const COLUMNS: usize = 3;

/// One chart before it is drawn. What a run does not have has no chart.
#[derive(Debug, Default)]
struct Chart {
    title: Cow<'static, str>,
    unit: &'static str,
    /// Every step's value, and their trailing mean.
    trained: Vec<Piece>,
    /// Held-out numbers over steps: label, colour, validation (joined), test (rings).
    held_out: Vec<(&'static str, &'static str, Piece, Piece)>,
    /// The vertical axis shows 0 and 1.
    share: bool,
    /// Noise is averaged away.
    noisy: bool,
    /// Steps committed as skipped are marked.
    marks: Piece,
}

impl Chart {
    fn trained(lines: &Lines, title: impl Into<Cow<'static, str>>, unit: &'static str, name: &str) -> Self {
        Self { title: title.into(), unit, trained: by_stage(lines, name), noisy: true, ..Self::default() }
    }

    fn and_held_out(mut self, lines: &Lines, name: &str, label: &'static str, color: &'static str) -> Self {
        let [validation, test] =
            [EvaluationSet::Validation, EvaluationSet::Test].map(|set| held_out(lines, set, name));
        if !validation.is_empty() || !test.is_empty() {
            self.held_out.push((label, color, validation, test));
        }
        self
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        let held_out =
            self.held_out.iter().flat_map(|(_, _, validation, test)| validation.iter().chain(test));
        self.trained.iter().flatten().chain(held_out)
    }
}

fn held_out(lines: &Lines, set: EvaluationSet, name: &str) -> Piece {
    let of = lines.evaluations.iter().filter(|e| e.set == set);
    of.filter_map(|e| Some((e.step as f64, *e.metrics.get(name)?))).filter(|(_, v)| v.is_finite()).collect()
}

fn charts(lines: &Lines) -> Vec<Chart> {
    let skipped = lines.steps.iter().filter(|s| s.skipped).map(|s| (s.step as f64, 0.0)).collect();
    let charts = [
        Chart { marks: skipped, ..Chart::trained(lines, "Loss", "loss", "loss") },
        Chart::trained(lines, "Mean reward", "reward", "reward")
            .and_held_out(lines, "reward", "held out", ORANGE),
        Chart { title: "Held-out agreement".into(), unit: "correlation", ..Chart::default() }
            .and_held_out(lines, "srcc", "SRCC", BLUE)
            .and_held_out(lines, "plcc", "PLCC", ORANGE),
        Chart { share: true, ..Chart::trained(lines, "Format rate", "share of answers", "format") }
            .and_held_out(lines, "format", "held out", ORANGE),
        Chart::trained(lines, "Gradient norm", "norm before clipping", "grad_norm"),
        Chart::trained(lines, "KL from the reference", "nats a token", "kl"),
        Chart::trained(lines, "Response length", "tokens", "response_tokens"),
        Chart::trained(lines, "Groups of equal rewards", "groups a step", "zero_spread"),
        Chart::trained(lines, "Rollout against training", "nats a token", "logprob_gap"),
        Chart { noisy: false, ..Chart::trained(lines, "Learning rate", "rate", "lr") },
    ];
    charts.into_iter().chain(others(lines)).filter(|c| c.points().any(|(_, v)| v.is_finite())).collect()
}

/// What the charts above show, by the names of metrics.
const SHOWN: [&str; 9] =
    ["reward", "srcc", "plcc", "format", "kl", "response_tokens", "zero_spread", "logprob_gap", "lr"];

/// A chart for every other metric; of what is held out, for all but the numbers of single sets, types and levels.
fn others(lines: &Lines) -> impl Iterator<Item = Chart> {
    let of_steps = lines.steps.iter().flat_map(|line| line.metrics.keys());
    let of_evaluations = lines.evaluations.iter().flat_map(|line| line.metrics.keys());
    let single = |name: &str| {
        name.contains('/') || ["_low", "_high"].iter().any(|end| name.ends_with(end)) || name == "best"
    };
    let names: BTreeSet<&String> = of_steps.chain(of_evaluations.filter(|name| !single(name))).collect();
    let names = names.into_iter().filter(|name| !SHOWN.contains(&name.as_str()));
    names.map(|name| {
        Chart::trained(lines, label(name), "", name).and_held_out(lines, name, "held out", ORANGE)
    })
}

/// Draws all charts that the run has numbers for.
pub(super) fn draw(lines: &Lines, facts: &Facts) -> String {
    let charts = charts(lines);
    let title = format!("Curves of {}", facts.name);
    let steps = lines.steps.iter().map(|s| s.step).chain(lines.evaluations.iter().map(|e| e.step));
    let Some(x) = Axis::counted(steps.map(|s| s as f64), 6).filter(|_| !charts.is_empty()) else {
        let mut svg = Svg::new(SIZE.0, 60.0, &title);
        let font = Font { size: 12.0, color: MUTED, weight: 400, anchor: "middle" };
        svg.text((SIZE.0 / 2.0, 34.0), "Nothing was recorded that could be drawn.", font);
        return svg.finish();
    };
    let columns = COLUMNS.min(charts.len());
    let (width, height) = (columns as f64 * SIZE.0, charts.len().div_ceil(columns) as f64 * SIZE.1);
    let mut svg = Svg::new(width, height, &title);
    let window = window(lines.steps.len());
    for (i, chart) in charts.iter().enumerate() {
        plot(&mut svg, chart, cell(i, columns), &x, window, lines);
    }
    svg.finish()
}

fn plot(svg: &mut Svg, chart: &Chart, origin: (f64, f64), x: &Axis, window: usize, lines: &Lines) {
    let bounds: &[f64] = if chart.share { &[0.0, 1.0] } else { &[] };
    let values = chart.points().map(|(_, v)| *v).chain(bounds.iter().copied());
    let Some(y) = Axis::around(values, 4) else { return };
    let averaged = chart.noisy && chart.trained.iter().any(|p| p.len() > window);
    let mut legend = Vec::new();
    if averaged {
        legend.push((format!("mean of {window}"), BLUE));
    }
    legend.extend(chart.held_out.iter().map(|(label, color, ..)| ((*label).to_owned(), *color)));
    if !chart.marks.is_empty() {
        legend.push(("skipped".to_owned(), RED));
    }
    let words = Words { title: &chart.title, x: "step", y: chart.unit, legend };
    let panel = Panel::draw(svg, origin, x.clone(), y, &words);
    for pair in lines.steps.windows(2).filter(|pair| pair[0].stage != pair[1].stage) {
        panel.upright(svg, pair[0].step as f64);
    }
    for piece in &chart.trained {
        let (color, width) = if averaged { (FAINT, 1.0) } else { (BLUE, 1.6) };
        panel.line(svg, &thinned(piece), Stroke { color, width, dashed: false });
        if averaged {
            let mean = thinned(&trailing_mean(piece, window));
            panel.line(svg, &mean, Stroke { color: BLUE, width: 1.9, dashed: false });
        }
    }
    for (_, color, validation, test) in &chart.held_out {
        panel.line(svg, validation, Stroke { color, width: 1.6, dashed: false });
        panel.dots(svg, validation, 2.8, color, 1.0);
        panel.rings(svg, test, color);
    }
    for (step, _) in &chart.marks {
        panel.mark(svg, *step, RED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Moment;
    use crate::report::example;

    fn titles(lines: &Lines) -> Vec<String> {
        charts(lines).iter().map(|c| c.title.to_string()).collect()
    }

    #[test]
    fn a_series_that_does_not_exist_has_no_chart() {
        let mut step = example::step(1, 0);
        step.metrics.clear();
        let lines = Lines { steps: vec![step], ..Lines::default() };
        assert_eq!(titles(&lines), ["Loss", "Gradient norm", "Learning rate"]);
    }

    #[test]
    fn every_metric_of_a_step_has_a_chart() {
        let mut step = example::step(1, 0);
        step.metrics.insert("pairwise".into(), 0.5);
        let mut evaluation = example::evaluation(1, EvaluationSet::Test, Moment::After);
        evaluation.metrics.insert("by_type/10".into(), 0.5);
        let lines = Lines { steps: vec![step], evaluations: vec![evaluation], ..Lines::default() };
        let titles = titles(&lines);
        assert!(titles.iter().any(|title| title == "pairwise"), "{titles:?}");
        assert!(!titles.iter().any(|title| title.contains("type")), "a table's business: {titles:?}");
    }

    #[test]
    fn an_evaluation_alone_has_its_chart() {
        let evaluations = vec![example::evaluation(0, EvaluationSet::Test, Moment::Before)];
        let lines = Lines { evaluations, ..Lines::default() };
        let expected = ["Mean reward", "Held-out agreement", "Format rate", "distinct scores", "RMSE"];
        assert_eq!(titles(&lines), expected);
        assert!(draw(&lines, &example::facts()).contains("</tspan>\u{a0}SRCC"));
    }

    #[test]
    fn skipped_steps_are_marked_where_the_loss_is_shown() {
        let mut steps: Vec<_> = (1..=4).map(|s| example::step(s, 0)).collect();
        steps[2].skipped = true;
        let lines = Lines { steps, ..Lines::default() };
        assert!(draw(&lines, &example::facts()).contains("</tspan>\u{a0}skipped</text>"));
    }

    #[test]
    fn a_runs_name_is_escaped_in_the_picture() {
        let facts = Facts { name: "</title><script>".into(), ..example::facts() };
        assert!(!draw(&Lines::default(), &facts).contains("<script>"));
    }
}
