//! Appends what happens to the run folder, line by line, so that a run that dies leaves what it knew.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{AnswerLine, Error, EvaluationLine, Lines, StepLine};
use crate::engine::EvaluationSet;

/// A line a committed step.
pub const METRICS: &str = "metrics.jsonl";
/// A line an evaluation.
pub const EVALUATIONS: &str = "evaluations.jsonl";
/// A line an answer of the newest evaluation.
pub const COMPLETIONS: &str = "completions.jsonl";

/// Writes a run's lines.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    steps: Appender,
    evaluations: Appender,
}

impl Writer {
    /// Opens the run folder's files, made where they are missing. A resumed run goes on behind what is there;
    /// a last line that a crash tore is ended, so that only it is lost.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(run_folder: &Path) -> Result<Self, Error> {
        let answers = run_folder.join("completions");
        fs::create_dir_all(&answers).map_err(|source| Error::Write { path: answers, source })?;
        Ok(Self {
            folder: run_folder.to_owned(),
            steps: Appender::open(run_folder.join(METRICS))?,
            evaluations: Appender::open(run_folder.join(EVALUATIONS))?,
        })
    }

    /// Appends a step. A step written twice (a crash between this line and the journal's) counts once: the
    /// later line holds.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn step(&mut self, line: &StepLine) -> Result<(), Error> {
        self.steps.append(line)
    }

    /// Appends an evaluation; written twice, the later line holds.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn evaluation(&mut self, line: &EvaluationLine) -> Result<(), Error> {
        self.evaluations.append(line)
    }

    /// Writes an evaluation's answers whole, to `completions/STEP-SET.jsonl` and `completions.jsonl`, and says
    /// where the former lies. An evaluation of the same set at the same step (after one stage, before the
    /// next) replaces it.
    ///
    /// # Errors
    /// If the file system refuses; what was there then stays.
    pub fn completions(
        &self,
        set: EvaluationSet,
        step: u64,
        answers: &[AnswerLine],
    ) -> Result<PathBuf, Error> {
        let path = answers_path(&self.folder, set, step);
        let mut bytes = Vec::new();
        for answer in answers {
            bytes.extend(encode(answer, &path)?);
        }
        whole(&path, &bytes)?;
        whole(&self.folder.join(COMPLETIONS), &bytes)?;
        Ok(path)
    }

    /// Reads back what was written to a run folder.
    ///
    /// # Errors
    /// If a file is there but cannot be read; [`Lines::read`].
    pub fn read(run_folder: &Path) -> Result<Lines, Error> {
        Lines::read(run_folder)
    }
}

/// Where the answers of an evaluation lie.
pub(super) fn answers_path(run_folder: &Path, set: EvaluationSet, step: u64) -> PathBuf {
    run_folder.join("completions").join(format!("{step:06}-{set}.jsonl"))
}

/// Writes a file whole: beside its place, synced, then renamed into it.
pub(super) fn whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: File,
}

impl Appender {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let open = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            if file.seek(SeekFrom::End(0))? > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    /// In one write, so that a reader meanwhile sees whole lines.
    fn append(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let bytes = encode(line, &self.path)?;
        self.file.write_all(&bytes).map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

fn encode(line: &impl Serialize, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes =
        serde_json::to_vec(line).map_err(|source| Error::Encode { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Moment;
    use crate::report::example;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut writer = Writer::create(folder.path()).expect("created");
        let evaluation = example::evaluation(0, EvaluationSet::Test, Moment::Before);
        writer.step(&example::step(1, 0)).expect("written");
        writer.evaluation(&evaluation).expect("written");
        let lines = Writer::read(folder.path()).expect("read");
        assert_eq!(lines.steps, [example::step(1, 0)]);
        assert_eq!(lines.evaluations, [evaluation]);
        assert!(lines.unreadable.is_empty());
    }

    #[test]
    fn a_resumed_run_loses_only_the_torn_line() {
        let folder = tempfile::tempdir().expect("temporary folder");
        Writer::create(folder.path()).expect("created").step(&example::step(1, 0)).expect("written");
        let path = folder.path().join(METRICS);
        let mut text = fs::read_to_string(&path).expect("read");
        text.push_str("{\"step\":2,\"sta");
        fs::write(&path, text).expect("torn");
        let mut resumed = Writer::create(folder.path()).expect("created");
        resumed.step(&example::step(2, 0)).expect("written");
        resumed.step(&example::step(3, 0)).expect("written");
        let lines = Writer::read(folder.path()).expect("read");
        assert_eq!(lines.steps.iter().map(|s| s.step).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(lines.unreadable.len(), 1);
        assert!(lines.unreadable[0].starts_with("metrics.jsonl:2: "), "{:?}", lines.unreadable);
    }

    #[test]
    fn the_newest_answers_lie_in_the_run_folder_too() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let writer = Writer::create(folder.path()).expect("created");
        writer.completions(EvaluationSet::Validation, 0, &example::answers(3)).expect("written");
        let path = writer.completions(EvaluationSet::Test, 40, &example::answers(2)).expect("written");
        assert_eq!(path, folder.path().join("completions/000040-test.jsonl"));
        assert_eq!(fs::read(folder.path().join(COMPLETIONS)).expect("read"), fs::read(path).expect("read"));
        let left = fs::read_dir(folder.path().join("completions")).expect("listed").count();
        assert_eq!(left, 2, "no partial file stays");
    }
}
