//! `coordinator evaluate`: agreement of prediction files with label files.
//!
//! ```text
//! label and prediction files → Set (matched samples) → Findings of each, unweighted means → table or JSON
//! ```

mod output;
mod set;

use std::path::PathBuf;

use eval::Bootstrap;

use self::output::Output;
use self::set::{Files, Set};
use crate::failure::Failure;
use crate::tell;

/// Arguments of `coordinator evaluate`.
#[derive(clap::Args)]
pub struct Args {
    /// Mean opinion scores: "dis mos", "dis mos std", "ref dis mos", "ref dis mos std" or "path, mos" a line; or a
    /// training manifest, JSON lines or an array. Given several times, once a data set: FILE or NAME=FILE.
    #[arg(long, value_name = "MOS.txt", required = true)]
    pub labels: Vec<String>,
    /// Predicted qualities: "path score" a line. One file a label file, in order; or several for a single label file,
    /// which are samples of the same pictures: their mean counts and their spread is reported.
    #[arg(long, value_name = "SCORES.txt", required = true)]
    pub predictions: Vec<PathBuf>,
    /// Another run's predictions, as many: differences with intervals over the same resampled samples.
    #[arg(long, value_name = "SCORES.txt")]
    pub against: Vec<PathBuf>,
    /// Resampled sets behind the intervals; 0: no intervals.
    #[arg(long, default_value_t = 1000)]
    pub bootstrap: u32,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// Matches the predictions with the labels and prints how well they agree.
///
/// # Errors
/// If a file is broken, files do not go together, or no label has a prediction (2).
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { labels, predictions, against, bootstrap, json } = args;
    let bootstrap = (bootstrap > 0).then(|| Bootstrap { draws: bootstrap, ..Bootstrap::default() });
    let count = labels.len();
    let fits = |files: usize| files == count || (count == 1 && files > 1);
    if !fits(predictions.len()) || !(against.is_empty() || fits(against.len())) {
        return Err(Failure::input(format!(
            "{count} files of labels, {} of predictions, {} to compare with; expected as many of each, or several of \
             predictions for one of labels",
            predictions.len(),
            against.len()
        )));
    }
    let of = |files: &[PathBuf], i: usize| match (count, files) {
        (_, []) => Vec::new(),
        (1, files) => files.to_vec(),
        (_, files) => vec![files[i].clone()],
    };
    let sets = labels.iter().enumerate().map(|(i, labels)| {
        Set::read(&Files { labels, predictions: &of(&predictions, i), against: &of(&against, i) })
    });
    let sets: Vec<Set> = sets.collect::<Result<_, _>>()?;
    for note in sets.iter().filter_map(Set::missing_note) {
        tell::err(format_args!("coordinator: {note}"));
    }
    let output = Output::of(&sets, bootstrap.as_ref());
    tell::out(if json { serde_json::to_string(&output).map_err(Failure::other)? } else { output.table() })
}

#[cfg(test)]
mod tests;
