//! One chart of a grid: title, legend, axes, and the marks on them.

use super::axis::Axis;
use super::svg::{Font, GRID, INK, MUTED, Stroke, Svg};

/// A chart's outer size, pixels.
pub(super) const SIZE: (f64, f64) = (352.0, 226.0);

const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;

const TITLE: Font = Font { size: 12.5, color: INK, weight: 600, anchor: "start" };
const SMALL: Font = Font { size: 10.0, color: MUTED, weight: 400, anchor: "middle" };

/// A chart with its axes drawn, to put marks on.
#[derive(Debug)]
pub(super) struct Panel {
    origin: (f64, f64),
    x: Axis,
    y: Axis,
}

/// What a chart says in words.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Label and colour.
    pub(super) legend: Vec<(String, &'static str)>,
}

/// The corner of a grid's cell.
pub(super) fn cell(index: usize, columns: usize) -> (f64, f64) {
    ((index % columns) as f64 * SIZE.0, (index / columns) as f64 * SIZE.1)
}

impl Panel {
    /// Draws frame, grid and words at a corner.
    pub(super) fn draw(svg: &mut Svg, origin: (f64, f64), x: Axis, y: Axis, words: &Words<'_>) -> Self {
        let panel = Self { origin, x, y };
        let grid = Stroke { color: GRID, width: 1.0, dashed: false };
        let (left, right) = (origin.0 + LEFT, origin.0 + SIZE.0 - RIGHT);
        let bottom = origin.1 + SIZE.1 - BOTTOM;
        for tick in panel.y.ticks() {
            if let Some(y) = panel.down(tick) {
                svg.line((left, y), (right, y), grid);
                svg.text((left - 6.0, y + 3.5), &panel.y.label(tick), Font { anchor: "end", ..SMALL });
            }
        }
        svg.line((left, bottom), (right, bottom), Stroke { color: MUTED, ..grid });
        for tick in panel.x.ticks() {
            if let Some(x) = panel.across(tick) {
                svg.line((x, bottom), (x, bottom + 4.0), Stroke { color: MUTED, ..grid });
                svg.text((x, bottom + 15.0), &panel.x.label(tick), SMALL);
            }
        }
        svg.text(((left + right) / 2.0, bottom + 30.0), words.x, SMALL);
        svg.upward((origin.0 + 13.0, (origin.1 + TOP + bottom) / 2.0), words.y, SMALL);
        svg.text((left, origin.1 + 20.0), words.title, TITLE);
        svg.legend((right, origin.1 + 20.0), &words.legend, Font { anchor: "end", ..SMALL });
        panel
    }

    /// A line; a single point becomes a dot.
    pub(super) fn line(&self, svg: &mut Svg, points: &[(f64, f64)], stroke: Stroke) {
        let placed: Vec<_> = points.iter().filter_map(|p| self.place(*p)).collect();
        match placed[..] {
            [] => {}
            [only] => svg.circle(only, 2.4, stroke.color, 1.0),
            _ => svg.polyline(&placed, stroke),
        }
    }

    /// A dot a point.
    pub(super) fn dots(&self, svg: &mut Svg, points: &[(f64, f64)], radius: f64, color: &str, opacity: f64) {
        for point in points.iter().filter_map(|p| self.place(*p)) {
            svg.circle(point, radius, color, opacity);
        }
    }

    /// A ring a point.
    pub(super) fn rings(&self, svg: &mut Svg, points: &[(f64, f64)], color: &str) {
        for point in points.iter().filter_map(|p| self.place(*p)) {
            svg.ring(point, 3.4, color);
        }
    }

    /// A dashed line from bottom to top.
    pub(super) fn upright(&self, svg: &mut Svg, x: f64) {
        if let Some(x) = self.across(x) {
            let (top, bottom) = (self.origin.1 + TOP, self.origin.1 + SIZE.1 - BOTTOM);
            svg.line((x, top), (x, bottom), Stroke { color: MUTED, width: 0.8, dashed: true });
        }
    }

    /// A short mark that stands on the horizontal axis.
    pub(super) fn mark(&self, svg: &mut Svg, x: f64, color: &'static str) {
        if let Some(x) = self.across(x) {
            let bottom = self.origin.1 + SIZE.1 - BOTTOM;
            svg.line((x, bottom - 7.0), (x, bottom), Stroke { color, width: 2.0, dashed: false });
        }
    }

    /// A bar from zero up, between two values of the horizontal axis.
    pub(super) fn bar(&self, svg: &mut Svg, (from, to): (f64, f64), value: f64, color: &str) {
        let (Some(from), Some(to)) = (self.across(from), self.across(to)) else { return };
        let (Some(top), Some(bottom)) = (self.down(value), self.down(0.0)) else { return };
        svg.bar((from, top), (to - from, bottom - top), color);
    }

    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((self.across(x)?, self.down(y)?))
    }

    fn across(&self, x: f64) -> Option<f64> {
        Some(self.origin.0 + LEFT + self.x.share(x)? * (SIZE.0 - LEFT - RIGHT))
    }

    fn down(&self, y: f64) -> Option<f64> {
        Some(self.origin.1 + TOP + (1.0 - self.y.share(y)?) * (SIZE.1 - TOP - BOTTOM))
    }
}
