//! The summary as people read it in a terminal, and the words that the page shares with it.

use std::fmt::Write as _;

use super::Summary;

/// The rows of the terminal's table, in order.
const ROWS: [&str; 5] = ["srcc", "plcc", "format", "reward", "distinct_scores"];

/// The summary as a table of held-out numbers before and after, and the paths to look on at.
#[must_use]
pub fn table(summary: &Summary) -> String {
    let mut out = String::new();
    let skipped =
        if summary.skipped > 0 { format!(", {} of them skipped", summary.skipped) } else { String::new() };
    let _ = writeln!(
        out,
        "{}: {} after {} steps{skipped}, {}",
        plain(&summary.name),
        plain(&summary.outcome),
        summary.steps,
        duration(summary.seconds)
    );
    if !summary.sets.is_empty() {
        let _ = write!(out, "\n{:<17}", "");
        for set in &summary.sets {
            let _ = write!(out, " {:>29}", set.set.to_string());
        }
        let _ = write!(out, "\n{:<17}", "");
        for _ in &summary.sets {
            let _ = write!(out, " {:>9} {:>9} {:>9}", "before", "after", "change");
        }
        out.push('\n');
    }
    for name in ROWS.into_iter().filter(|name| summary.sets.iter().any(|s| s.names().any(|n| n == *name))) {
        let _ = write!(out, "{:<17}", label(name));
        for set in &summary.sets {
            let (before, after) = set.pair(name);
            let _ = write!(
                out,
                " {:>9} {:>9} {:>9}",
                cell(name, before),
                cell(name, after),
                change(name, before, after)
            );
        }
        out.push('\n');
    }
    if let Some(reward) = summary.training_reward {
        let _ = writeln!(
            out,
            "\ntraining reward: {:.3} in the first {n} steps, {:.3} in the last {n}",
            reward.before,
            reward.after,
            n = reward.steps
        );
    }
    if !summary.quarantined.is_empty() {
        let named: Vec<String> = summary.quarantined.iter().map(|found| plain(&found.sample)).collect();
        let _ = writeln!(out, "\nin quarantine, because workers died on it: {}", named.join(", "));
    }
    let files = &summary.files;
    out.push('\n');
    let paths = [
        ("report", Some(&files.report)),
        ("curves", Some(&files.curves)),
        ("completions", files.completions.as_ref()),
        ("checkpoint", files.checkpoint.as_ref()),
    ];
    for (name, path) in paths {
        let shown = path.map_or_else(|| "none".to_owned(), |p| plain(&p.display().to_string()));
        let _ = writeln!(out, "{name:<17} {shown}");
    }
    for line in summary.unreadable.iter().take(3) {
        let _ = writeln!(out, "skipped a line that cannot be read: {}", plain(line));
    }
    if let Some(more) = summary.unreadable.len().checked_sub(3).filter(|n| *n > 0) {
        let _ = writeln!(out, "skipped {more} more");
    }
    out
}

/// A metric's name as people say it.
pub(super) fn label(name: &str) -> String {
    let known = match name {
        "srcc" => "SRCC",
        "plcc" => "PLCC",
        "plcc_logistic" => "PLCC, logistic",
        "krcc" => "KRCC",
        "rmse" => "RMSE",
        "format" => "format rate",
        "reward" => "mean reward",
        _ => return name.replace('_', " "),
    };
    known.to_owned()
}

/// A metric's value; counts have no decimals.
pub(super) fn cell(name: &str, value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(v) if !v.is_finite() => "–".into(),
        Some(v) if v.abs() >= 1e6 => format!("{v:.2e}"),
        Some(v) if counted(name) => format!("{v:.0}"),
        Some(v) => format!("{v:.3}"),
    }
}

/// By how much a metric moved, with its sign.
pub(super) fn change(name: &str, before: Option<f64>, after: Option<f64>) -> String {
    match before.zip(after).map(|(before, after)| after - before) {
        Some(v) if v > 0.0 && v.is_finite() => format!("+{}", cell(name, Some(v))),
        moved => cell(name, moved),
    }
}

fn counted(name: &str) -> bool {
    matches!(name, "distinct_scores" | "samples" | "missing" | "unparsed")
}

/// Seconds as hours, minutes and seconds.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Without control characters: a name or reason shall not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Lines, example};

    #[test]
    fn a_whole_run_reads_as_a_table() {
        let folder = tempfile::tempdir().expect("temporary folder");
        example::run(folder.path());
        let lines = Lines::read(folder.path()).expect("read");
        let mut summary = Summary::of(folder.path(), &example::facts(), &lines);
        summary.seconds = 754.2;
        let text = table(&summary);
        let head = "made-up: finished after 60 steps, 1 of them skipped, 12 min 34 s\n";
        assert!(text.starts_with(head), "{text}");
        assert!(
            text.contains("SRCC                  0.310     0.790    +0.480     0.300     0.780    +0.480\n"),
            "{text}"
        );
        assert!(text.contains("distinct scores          60       120       +60"), "{text}");
        assert!(text.contains("checkpoint        none\n"), "{text}");
        assert!(
            text.lines().all(|l| l.starts_with("report") || l.contains("/tmp") || l.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn a_number_that_one_side_lacks_has_no_change() {
        assert_eq!(change("srcc", None, Some(0.5)), "–");
        assert_eq!(change("srcc", Some(0.75), Some(0.5)), "-0.250");
        assert_eq!(change("distinct_scores", Some(12.0), Some(87.0)), "+75");
        assert_eq!(change("rmse", Some(-f64::MAX), Some(f64::MAX)), "–");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let facts = crate::report::Facts { name: "a\u{1b}[2Jb".into(), ..example::facts() };
        let summary = Summary::of(std::path::Path::new("run"), &facts, &Lines::default());
        assert!(!table(&summary).contains('\u{1b}'));
    }
}
