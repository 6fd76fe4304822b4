//! One data set: labels matched with predictions.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use data::{Distortion, is_mos_text, is_video_name, reference_of};
use eval::{Item, Label, Matching, Pair, Paired, Prediction, parse_labels, read_labels, read_predictions};

use crate::failure::Failure;

/// What a set is read from.
#[derive(Debug)]
pub(super) struct Files<'a> {
    /// FILE or NAME=FILE.
    pub(super) labels: &'a str,
    /// Of one model; several are samples of the same pictures.
    pub(super) predictions: &'a [PathBuf],
    /// Of another model; none where nothing is compared.
    pub(super) against: &'a [PathBuf],
}

/// A data set's labels and what is predicted for them.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: String,
    labels: Vec<Label>,
    missing: Vec<usize>,
    ambiguous: Vec<usize>,
    /// Matched samples, in the labels' order.
    pub(super) items: Vec<Item>,
    /// Mean over samples of the spread of a picture's several predictions, where there are several.
    pub(super) spread: Option<f64>,
    /// The samples that both models predict.
    pub(super) paired: Vec<Paired>,
}

impl Set {
    /// Reads and matches.
    pub(super) fn read(files: &Files<'_>) -> Result<Self, Failure> {
        let (name, path) = named(files.labels);
        let labels = label_file(&path)?;
        let own = predicted(&labels, files.predictions)?;
        let other = match files.against {
            [] => None,
            files => Some(predicted(&labels, files)?),
        };
        Ok(Self::of(name, labels, own, other.as_ref()))
    }

    pub(super) fn of(name: String, labels: Vec<Label>, own: Predicted, other: Option<&Predicted>) -> Self {
        let (mut items, mut paired) = (Vec::new(), Vec::new());
        for (i, label) in labels.iter().enumerate() {
            let Some(prediction) = own.means[i] else { continue };
            items.push(item(label, prediction));
            if let Some(second) = other.and_then(|other| other.means[i]) {
                paired.push(Paired { label: label.mos, first: prediction, second });
            }
        }
        let missing = (0..labels.len()).filter(|&i| own.means[i].is_none()).collect();
        Self { name, labels, missing, ambiguous: own.ambiguous, items, spread: own.spread, paired }
    }

    pub(super) fn pairs(&self) -> Vec<Pair> {
        self.items.iter().map(|item| item.pair).collect()
    }

    pub(super) fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Which labels have no prediction, and why where it can be said.
    pub(super) fn missing_note(&self) -> Option<String> {
        let first = &self.labels[*self.missing.first()?].path;
        let note = format!(
            "{} of {} labels have no prediction, first {first:?}",
            self.missing.len(),
            self.labels.len()
        );
        let Some(&ambiguous) = self.ambiguous.first() else { return Some(note) };
        Some(format!(
            "{note}; {} of them have a base name that is not unique, first {:?}: give the predictions by the labels' \
             relative paths",
            self.ambiguous.len(),
            self.labels[ambiguous].path
        ))
    }
}

/// What one model says of every label.
#[derive(Debug)]
pub(super) struct Predicted {
    /// None where no file has it, or not all do.
    means: Vec<Option<f64>>,
    spread: Option<f64>,
    ambiguous: Vec<usize>,
}

fn predicted(labels: &[Label], files: &[PathBuf]) -> Result<Predicted, Failure> {
    let mut read = Vec::new();
    for file in files {
        let predictions = read_predictions(file).map_err(Failure::input)?;
        if Matching::of(labels, &predictions).matched.is_empty() {
            return Err(Failure::input(format!(
                "no label has a prediction: the labels name {:?}, the predictions {:?}; expected the same relative \
                 paths, or base names that are unique in both files",
                labels[0].path, predictions[0].path
            )));
        }
        read.push(predictions);
    }
    Ok(Predicted::of(labels, &read))
}

impl Predicted {
    pub(super) fn of(labels: &[Label], files: &[Vec<Prediction>]) -> Self {
        let mut scores: Vec<Vec<f64>> = vec![Vec::new(); labels.len()];
        let mut ambiguous = Vec::new();
        for predictions in files {
            let matching = Matching::of(labels, predictions);
            for (label, prediction) in matching.matched {
                scores[label].push(predictions[prediction].score);
            }
            ambiguous = matching.ambiguous;
        }
        let whole = |scores: &&Vec<f64>| scores.len() == files.len();
        let spreads: Vec<f64> = scores.iter().filter(whole).map(|scores| spread(scores)).collect();
        let several = files.len() > 1 && !spreads.is_empty();
        Self {
            means: scores.iter().map(|scores| whole(&scores).then(|| mean(scores))).collect(),
            spread: several.then(|| mean(&spreads)),
            ambiguous,
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    // A single value is itself, to the bit.
    if let [one] = values { *one } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The population standard deviation.
fn spread(values: &[f64]) -> f64 {
    let centre = mean(values);
    mean(&values.iter().map(|v| (v - centre).powi(2)).collect::<Vec<_>>()).sqrt()
}

fn item(label: &Label, prediction: f64) -> Item {
    let path = Path::new(&label.path);
    let stem = |name: &str| Path::new(name).with_extension("").to_string_lossy().to_lowercase();
    Item {
        pair: Pair { prediction, label: label.mos },
        distortion: Distortion::of(path).map(|d| (d.kind, d.level)),
        reference: match &label.reference {
            Some(named) => stem(named),
            None => reference_of(&label.path, is_video_name(path)),
        },
    }
}

/// FILE under its stem, or NAME=FILE.
fn named(argument: &str) -> (String, PathBuf) {
    match argument.split_once('=') {
        Some((name, file)) if !name.is_empty() && !name.contains('/') && !Path::new(argument).exists() => {
            (name.to_owned(), PathBuf::from(file))
        }
        _ => {
            let path = PathBuf::from(argument);
            (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path)
        }
    }
}

/// The labels of a text file or of a manifest.
fn label_file(path: &Path) -> Result<Vec<Label>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|e| Failure::input(format!("{}: {e}; expected a readable label file", path.display())))?;
    let name = path.display().to_string();
    if is_mos_text(path, &bytes) {
        return match std::str::from_utf8(&bytes) {
            Ok(text) => parse_labels(text, &name).map_err(Failure::input),
            Err(_) => read_labels(path).map_err(Failure::input),
        };
    }
    let samples = data::parse_manifest(&name, &bytes, Path::new(""), "").map_err(Failure::input)?;
    let mut seen = HashSet::new();
    let label = |sample: data::Sample| {
        let path = sample.images.first().map(|file| file.display().to_string()).unwrap_or_default();
        if !seen.insert(path.clone()) {
            return Err(Failure::input(format!("{name}: {path:?} stands in it twice: keep one of them")));
        }
        Ok(Label { path, reference: None, mos: sample.mos, std: None })
    };
    samples.into_iter().map(label).collect()
}
