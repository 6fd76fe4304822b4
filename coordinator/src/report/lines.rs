//! Reads a run's lines back. A line that cannot be read is skipped and said, never a reason to have no report.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::writer::{EVALUATIONS, METRICS, answers_path};
use super::{AnswerLine, Error, EvaluationLine, StepLine};
use crate::engine::EvaluationSet;

/// All that a run folder holds of steps and evaluations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// In the order of their steps, each step once.
    pub steps: Vec<StepLine>,
    /// In the order in which they happened, each once.
    pub evaluations: Vec<EvaluationLine>,
    /// What was skipped: `metrics.jsonl:12: why`.
    pub unreadable: Vec<String>,
}

impl Lines {
    /// Reads `metrics.jsonl` and `evaluations.jsonl`; a file that is missing holds nothing.
    ///
    /// # Errors
    /// If a file is there but cannot be read.
    pub fn read(run_folder: &Path) -> Result<Self, Error> {
        let mut unreadable = Vec::new();
        let steps: Vec<StepLine> = each(&run_folder.join(METRICS), &mut unreadable)?;
        let evaluations: Vec<EvaluationLine> = each(&run_folder.join(EVALUATIONS), &mut unreadable)?;
        let steps: BTreeMap<_, _> = steps.into_iter().map(|s| (s.step, s)).collect();
        let evaluations: BTreeMap<_, _> =
            evaluations.into_iter().map(|e| ((e.step, e.stage, e.moment, e.set), e)).collect();
        Ok(Self {
            steps: steps.into_values().collect(),
            evaluations: evaluations.into_values().collect(),
            unreadable,
        })
    }

    /// Reads the answers of an evaluation; none where their file is missing. Adds to `unreadable`.
    ///
    /// # Errors
    /// If the file is there but cannot be read.
    pub fn answers(
        &mut self,
        run_folder: &Path,
        set: EvaluationSet,
        step: u64,
    ) -> Result<Vec<AnswerLine>, Error> {
        each(&answers_path(run_folder, set, step), &mut self.unreadable)
    }
}

fn each<T: DeserializeOwned>(path: &Path, unreadable: &mut Vec<String>) -> Result<Vec<T>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut lines = Vec::new();
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(line) => lines.push(line),
            Err(why) => unreadable.push(format!("{name}:{}: {why}", i + 1)),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Moment;
    use crate::report::{Writer, example};

    #[test]
    fn an_empty_folder_holds_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert_eq!(Lines::read(folder.path()).expect("read"), Lines::default());
    }

    #[test]
    fn bytes_that_are_no_text_are_skipped_and_said() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let bytes = [b"\xff\xfe{\n".as_slice(), b"[1e999]\n", &[b'['; 4000]].concat();
        std::fs::write(folder.path().join(METRICS), bytes).expect("written");
        let lines = Lines::read(folder.path()).expect("read");
        assert!(lines.steps.is_empty());
        assert_eq!(lines.unreadable.len(), 3);
    }

    #[test]
    fn of_a_step_written_twice_the_later_line_holds() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut writer = Writer::create(folder.path()).expect("created");
        let (first, mut second) = (example::step(5, 0), example::step(5, 0));
        second.loss = 9.0;
        writer.step(&first).expect("written");
        writer.step(&second).expect("written");
        assert_eq!(Lines::read(folder.path()).expect("read").steps, [second]);
    }

    #[test]
    fn a_stages_end_stands_before_the_next_ones_start() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut writer = Writer::create(folder.path()).expect("created");
        for (stage, moment) in [(1, Moment::Before), (0, Moment::After)] {
            let mut line = example::evaluation(10, EvaluationSet::Test, moment);
            line.stage = stage;
            writer.evaluation(&line).expect("written");
        }
        let lines = Lines::read(folder.path()).expect("read");
        assert_eq!(lines.evaluations.iter().map(|e| e.stage).collect::<Vec<_>>(), [0, 1]);
    }
}
