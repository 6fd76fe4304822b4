//! A small SVG writer: what charts need, every text escaped, every colour given where it is used, so that a
//! picture looks the same alone and within a page.

use std::fmt::Write as _;

use super::html::escape;

/// Text and frames.
pub(super) const INK: &str = "#1f2733";
/// Labels of axes.
pub(super) const MUTED: &str = "#667085";
/// Lines behind the data.
pub(super) const GRID: &str = "#e7eaf0";
/// The first series. This and the next two are told apart by colour-blind eyes too.
pub(super) const BLUE: &str = "#2563a8";
/// The second series.
pub(super) const ORANGE: &str = "#d1711f";
/// Trouble.
pub(super) const RED: &str = "#c02f3a";
/// A series behind its own average.
pub(super) const FAINT: &str = "#b7c6da";

/// A picture being drawn, units are pixels.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// How a text stands at its point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) color: &'static str,
    pub(super) weight: u16,
    /// `start`, `middle` or `end`.
    pub(super) anchor: &'static str,
}

/// A line's looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) color: &'static str,
    pub(super) width: f64,
    pub(super) dashed: bool,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: escape(title), body: String::new() }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.polyline(&[from, to], stroke);
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let Stroke { color, width, dashed } = stroke;
        self.body.push_str("<polyline points=\"");
        for (x, y) in points {
            let _ = write!(self.body, "{x:.1},{y:.1} ");
        }
        let dash = if dashed { " stroke-dasharray=\"3 3\"" } else { "" };
        let _ = writeln!(
            self.body,
            "\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>"
        );
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, color: &str, opacity: f64) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\" fill-opacity=\"{opacity}\"/>"
        );
    }

    /// A ring, to be told from a dot.
    pub(super) fn ring(&mut self, (x, y): (f64, f64), radius: f64, color: &str) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"#fff\" stroke=\"{color}\" stroke-width=\"1.6\"/>"
        );
    }

    pub(super) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), color: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
        );
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, font: Font) {
        self.placed(&format!("x=\"{x:.1}\" y=\"{y:.1}\""), text, font);
    }

    /// Reads upwards.
    pub(super) fn upward(&mut self, (x, y): (f64, f64), text: &str, font: Font) {
        self.placed(&format!("transform=\"translate({x:.1} {y:.1}) rotate(-90)\""), text, font);
    }

    /// Labels side by side, each behind a dot of its colour, in one text: no font is at hand to measure with.
    pub(super) fn legend(&mut self, (x, y): (f64, f64), entries: &[(String, &str)], font: Font) {
        let Font { size, color, anchor, .. } = font;
        if entries.is_empty() {
            return;
        }
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{color}\" text-anchor=\"{anchor}\">"
        );
        for (i, (label, dot)) in entries.iter().enumerate() {
            let gap = if i > 0 { "\u{2003}" } else { "" };
            let _ = write!(self.body, "{gap}<tspan fill=\"{dot}\">●</tspan>\u{a0}{}", escape(label));
        }
        self.body.push_str("</text>\n");
    }

    fn placed(&mut self, place: &str, text: &str, Font { size, color, weight, anchor }: Font) {
        let _ = writeln!(
            self.body,
            "<text {place} font-size=\"{size}\" fill=\"{color}\" font-weight=\"{weight}\" \
             text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    }

    /// The picture, on white.
    pub(super) fn finish(self) -> String {
        let Self { width, height, title, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, \
             Arial, 'DejaVu Sans', sans-serif\">\n<title>{title}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }
}
