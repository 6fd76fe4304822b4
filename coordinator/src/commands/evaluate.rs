//! `coordinator evaluate`: agreement of a prediction file with a label file.

use std::path::{Path, PathBuf};

use eval::{Fit, Label, Matching, Report, parse_labels, read_labels, read_predictions};
use serde::Serialize;

use crate::failure::Failure;
use crate::tell;

/// Arguments of `coordinator evaluate`.
#[derive(clap::Args)]
pub struct Args {
    /// Mean opinion scores: "dis mos", "dis mos std", "ref dis mos", "ref dis mos std" or "path, mos" a line; or a
    /// training manifest, JSON lines or an array.
    #[arg(long, value_name = "MOS.txt")]
    pub labels: PathBuf,
    /// Predicted qualities: "path score" a line.
    #[arg(long, value_name = "SCORES.txt")]
    pub predictions: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is printed; null where a correlation is undefined.
#[derive(Debug, PartialEq, Serialize)]
struct Output {
    srcc: Option<f64>,
    plcc: Option<f64>,
    krcc: Option<f64>,
    rmse: Option<f64>,
    matched: usize,
    missing: usize,
    distinct_scores: usize,
    fit: Fit,
}

/// Matches the predictions with the labels and prints how well they agree.
///
/// # Errors
/// If a file is broken, or no label has a prediction (2).
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { labels, predictions, json } = args;
    let labels = label_file(&labels)?;
    let predictions = read_predictions(&predictions).map_err(Failure::input)?;
    let matching = Matching::of(&labels, &predictions);
    if let Some(note) = missing_note(&labels, &matching) {
        tell::err(format_args!("coordinator: {note}"));
    }
    if matching.matched.is_empty() {
        return Err(Failure::input(format!(
            "no label has a prediction: the labels name {:?}, the predictions {:?}; expected the same relative \
             paths, or base names that are unique in both files",
            labels[0].path, predictions[0].path
        )));
    }
    let output = evaluate(&labels, &predictions, &matching);
    let text = if json { serde_json::to_string(&output).map_err(Failure::other)? } else { table(&output) };
    tell::out(text)
}

/// The labels of a text file or of a manifest, which begins with a bracket.
fn label_file(path: &Path) -> Result<Vec<Label>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|e| Failure::input(format!("{}: {e}; expected a readable label file", path.display())))?;
    let name = path.display().to_string();
    let begins = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii_start().first();
    if !matches!(begins, Some(b'{' | b'[')) {
        return match std::str::from_utf8(&bytes) {
            Ok(text) => parse_labels(text, &name).map_err(Failure::input),
            Err(_) => read_labels(path).map_err(Failure::input),
        };
    }
    let samples = data::parse_manifest(&name, &bytes, Path::new(""), "").map_err(Failure::input)?;
    let mut seen = std::collections::HashSet::new();
    let label = |sample: data::Sample| {
        let path = sample.images.first().map(|file| file.display().to_string()).unwrap_or_default();
        if !seen.insert(path.clone()) {
            return Err(Failure::input(format!("{name}: {path:?} stands in it twice: keep one of them")));
        }
        Ok(Label { path, reference: None, mos: sample.mos, std: None })
    };
    samples.into_iter().map(label).collect()
}

fn evaluate(labels: &[Label], predictions: &[eval::Prediction], matching: &Matching) -> Output {
    let report = Report::of(&matching.pairs(labels, predictions), None);
    let Report { srcc, plcc, krcc, rmse, distinct_scores, fit, .. } = report;
    let (matched, missing) = (matching.matched.len(), matching.missing.len());
    Output { srcc, plcc, krcc, rmse, matched, missing, distinct_scores, fit }
}

/// Which labels have no prediction, and why where it can be said.
fn missing_note(labels: &[Label], matching: &Matching) -> Option<String> {
    let first = &labels[*matching.missing.first()?].path;
    let note =
        format!("{} of {} labels have no prediction, first {first:?}", matching.missing.len(), labels.len());
    let Some(&ambiguous) = matching.ambiguous.first() else { return Some(note) };
    Some(format!(
        "{note}; {} of them have a base name that is not unique, first {:?}: give the predictions by the labels' \
         relative paths",
        matching.ambiguous.len(),
        labels[ambiguous].path
    ))
}

fn table(output: &Output) -> String {
    let number = |v: Option<f64>| {
        v.map_or("undefined: fewer than two pairs, or all alike".into(), |v| format!("{v:.4}"))
    };
    let fitted = match &output.fit {
        Fit::Fitted { plcc, .. } => format!("{plcc:.4}"),
        Fit::Failed { failed } => format!("failed: {failed}"),
    };
    let rows = [
        ("srcc", number(output.srcc)),
        ("plcc", number(output.plcc)),
        ("plcc, fitted", fitted),
        ("krcc", number(output.krcc)),
        ("rmse", number(output.rmse)),
        ("matched", output.matched.to_string()),
        ("missing", output.missing.to_string()),
        ("distinct scores", output.distinct_scores.to_string()),
    ];
    rows.map(|(name, value)| format!("{name:<16}{value}")).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use eval::parse_predictions;

    fn output(labels: &str, predictions: &str) -> (Output, Option<String>) {
        let labels = parse_labels(labels, "mos.txt").expect("labels");
        let predictions = parse_predictions(predictions, "scores.txt").expect("predictions");
        let matching = Matching::of(&labels, &predictions);
        (evaluate(&labels, &predictions, &matching), missing_note(&labels, &matching))
    }

    #[test]
    fn the_json_has_the_promised_keys_and_null_for_what_is_undefined() {
        let (all, note) = output("v/a.mp4, 1\nv/b.mp4, 2\nv/c.mp4, 4\n", "a_0.png 1.5\nv/b.mp4 2.5\n");
        let json = serde_json::to_value(&all).expect("JSON");
        assert_eq!((&json["srcc"], &json["plcc"], &json["krcc"]), (&1.0.into(), &1.0.into(), &1.0.into()));
        assert_eq!((&json["rmse"], &json["matched"], &json["missing"]), (&0.5.into(), &2.into(), &1.into()));
        assert_eq!(note.as_deref(), Some("1 of 3 labels have no prediction, first \"v/c.mp4\""));
        let (constant, note) = output("a.png 1\nb.png 2\n", "a.png 3\nb.png 3\n");
        assert_eq!((constant.srcc, note), (None, None));
        assert!(serde_json::to_value(&constant).expect("JSON")["srcc"].is_null());
        assert!(table(&constant).contains("srcc            undefined"), "{}", table(&constant));
    }

    #[test]
    fn an_ambiguous_base_name_is_told() {
        let (all, note) = output("a/1.png 1\nb/1.png 2\nc.png 3\n", "1.png 3\nc.png 3\n");
        assert_eq!((all.matched, all.missing), (1, 2));
        let note = note.expect("a note");
        assert!(note.contains("2 of them have a base name that is not unique, first \"a/1.png\""), "{note}");
    }
}
