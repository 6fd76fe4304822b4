//! What a run leaves behind for people: lines as it goes, and at its end a summary, curves and a page.
//!
//! `Writer` (while it runs) → `metrics.jsonl`, `evaluations.jsonl`, `completions/` → [`Lines`] →
//! [`Summary`], `curves.svg`, `report.html` ([`write`]).

mod axis;
mod curves;
#[cfg(test)]
mod example;
mod html;
mod lines;
mod page;
mod panel;
mod plots;
mod record;
mod series;
mod summary;
mod svg;
mod table;
mod thumbnail;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use settings::{Run, StageKind};

pub use lines::Lines;
pub use record::{AnswerLine, EvaluationLine, StepLine};
pub use summary::{Change, Files, Point, Quarantined, SetSummary, Summary};
pub use table::table;
pub use writer::{COMPLETIONS, EVALUATIONS, METRICS, Writer};

/// The page's file name in the run folder.
pub const REPORT: &str = "report.html";
/// The curves' file name in the run folder.
pub const CURVES: &str = "curves.svg";
/// The summary's file name in the run folder.
pub const SUMMARY: &str = "summary.json";

/// What the report says of a run that its lines do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The run's name.
    pub name: String,
    /// The run's seed.
    pub seed: u64,
    /// Of the resolved recipe.
    pub digest: String,
    /// The resolved recipe.
    pub recipe_yaml: String,
    /// In their order.
    pub stages: Vec<StageFacts>,
    /// SHA-256 of what the run was made of: label files, weights at every stage's start. Name and digest.
    pub digests: Vec<(String, String)>,
    /// Samples that were left out because workers died on them.
    pub quarantined: Vec<Quarantined>,
    /// The checkpoint to go on with.
    pub checkpoint: Option<PathBuf>,
    /// `finished`, `interrupted` or the failure's reason.
    pub outcome: String,
}

/// A stage, as far as the report cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageFacts {
    /// Unique within the run.
    pub name: String,
    /// What its steps do.
    pub kind: StageKind,
}

impl Facts {
    /// The facts of a run; no checkpoint yet.
    #[must_use]
    pub fn of(run: &Run, digest: &str, recipe_yaml: &str, outcome: &str) -> Self {
        Self {
            name: run.run.name.clone(),
            seed: run.run.seed,
            digest: digest.to_owned(),
            recipe_yaml: recipe_yaml.to_owned(),
            stages: run.stages.iter().map(|s| StageFacts { name: s.name.clone(), kind: s.kind }).collect(),
            digests: Vec::new(),
            quarantined: Vec::new(),
            checkpoint: None,
            outcome: outcome.to_owned(),
        }
    }

    /// A stage's name, its number where it has none.
    fn stage_name(&self, stage: usize) -> String {
        self.stages
            .get(stage)
            .map_or_else(|| format!("stage {}", stage.saturating_add(1)), |s| s.name.clone())
    }
}

/// Why a line or the report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is there but cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; make room or the folder writable, then resume the run", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// A line cannot be put into JSON.
    #[error("cannot write a line of {} as JSON: {source}", path.display())]
    Encode {
        /// Of which file.
        path: PathBuf,
        /// As the encoder says it.
        source: serde_json::Error,
    },
}

/// [`draw`] and [`Drawn::put`].
#[cfg(test)]
fn write(run_folder: &Path, facts: &Facts) -> Result<Summary, Error> {
    draw(run_folder, facts)?.put(run_folder)
}

/// A run's report, not on disk yet: `summary.json`, `curves.svg` and `report.html`.
#[derive(Debug)]
pub struct Drawn {
    summary: Summary,
    /// Name to content.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Drawn {
    /// Writes it into the run folder; what was there is replaced.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn put(self, run_folder: &Path) -> Result<Summary, Error> {
        for (name, content) in &self.files {
            writer::whole(&run_folder.join(name), content)?;
        }
        Ok(self.summary)
    }
}

/// Reads a run's lines, and makes its report of them. A run without a step has one too.
///
/// # Errors
/// If a file cannot be read.
pub fn draw(run_folder: &Path, facts: &Facts) -> Result<Drawn, Error> {
    let mut lines = Lines::read(run_folder)?;
    let mut summary = Summary::of(run_folder, facts, &lines);
    let mut answers = page::Answers::default();
    if let Some(compared) = summary.shown() {
        let set = compared.set;
        if let Some(before) = &compared.before {
            answers.before = lines.answers(run_folder, set, before.step)?;
        }
        if let Some(after) = &compared.after {
            answers.after = lines.answers(run_folder, set, after.step)?;
        }
    }
    summary.unreadable.clone_from(&lines.unreadable);
    let curves = curves::draw(&lines, facts);
    let page = page::render(facts, &summary, &lines, &answers, &curves);
    let mut json = serde_json::to_vec_pretty(&summary)
        .map_err(|source| Error::Encode { path: run_folder.join(SUMMARY), source })?;
    json.push(b'\n');
    let files = vec![(CURVES, curves.into_bytes()), (REPORT, page.into_bytes()), (SUMMARY, json)];
    Ok(Drawn { summary, files })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::{EvaluationSet, Moment};

    fn written(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).expect(name)
    }

    #[test]
    fn a_run_without_a_step_has_a_report() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let summary = write(folder.path(), &example::facts()).expect("written");
        assert_eq!((summary.steps, summary.sets.len()), (0, 0));
        assert!(written(folder.path(), CURVES).contains("Nothing was recorded"));
        assert!(written(folder.path(), REPORT).ends_with("</html>\n"));
        assert!(!table(&summary).is_empty());
    }

    #[test]
    fn a_run_of_one_step_has_a_point_in_its_curves() {
        let folder = tempfile::tempdir().expect("temporary folder");
        Writer::create(folder.path()).expect("created").step(&example::step(1, 0)).expect("written");
        write(folder.path(), &example::facts()).expect("written");
        let curves = written(folder.path(), CURVES);
        assert!(curves.contains("<circle") && !curves.contains("NaN"));
    }

    #[test]
    fn numbers_that_are_not_finite_reach_no_picture_and_no_table() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut writer = Writer::create(folder.path()).expect("created");
        for step in 1..=5 {
            let mut line = example::step(step, 0);
            line.loss = f64::NAN;
            line.grad_norm = if step == 3 { f64::INFINITY } else { f64::MAX };
            line.metrics.values_mut().for_each(|v| *v = if step == 2 { -f64::MAX } else { f64::MAX });
            writer.step(&line).expect("written");
        }
        let mut evaluation = example::evaluation(5, EvaluationSet::Test, Moment::After);
        evaluation.metrics.values_mut().for_each(|v| *v = f64::NAN);
        writer.evaluation(&evaluation).expect("written");
        let mut answers = example::answers(3);
        answers[0].mos = f64::NAN;
        answers[1].predicted = Some(f64::MAX);
        writer.completions(EvaluationSet::Test, 5, &answers).expect("written");
        let summary = write(folder.path(), &example::facts()).expect("written");
        let all = [written(folder.path(), CURVES), written(folder.path(), REPORT), table(&summary)].concat();
        assert!(!all.contains("NaN") && !all.contains(">inf") && !all.contains("\"inf"), "{all}");
    }

    #[test]
    fn a_whole_runs_summary_is_read_back_from_its_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        example::run(folder.path());
        let summary = write(folder.path(), &example::facts()).expect("written");
        let back: Summary = serde_json::from_str(&written(folder.path(), SUMMARY)).expect("read");
        assert_eq!((&back.sets, &back.files, table(&back)), (&summary.sets, &summary.files, table(&summary)));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_in_the_error() {
        let error = write(Path::new("/nowhere/run"), &example::facts()).expect_err("refused");
        assert!(error.to_string().starts_with("cannot write /nowhere/run/curves.svg: "), "{error}");
    }
}
