//! What is judged already, so that an interrupted command goes on where it was.
//!
//! `OUTPUT.progress` holds JSON lines: how things are judged, then the verdicts of a batch each. A batch is whole or
//! not there; items are batched by their place, so that one which is judged again meets the same neighbours and has
//! the same answer, to the last bit.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::verdict::Verdict;
use crate::failure::Failure;

/// An open journal.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal beside `output`, and what it holds, `[batches]`. A last line that is cut off is dropped.
    pub(super) fn open(output: &Path, how: &Value) -> Result<(Self, Vec<Vec<Verdict>>), Failure> {
        let mut path = output.as_os_str().to_owned();
        path.push(".progress");
        let path = PathBuf::from(path);
        let failed = |e: io::Error| Failure::other(format!("{}: {e}", path.display()));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(failed(e)),
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let other = |what: String| {
            Failure::input(format!(
                "{}: {what}; remove it to begin anew, or give the settings that it was begun with",
                path.display()
            ))
        };
        let begun = match lines.next() {
            None => false,
            Some(line) => {
                let then: Value = serde_json::from_slice(line)
                    .map_err(|e| other(format!("is no record of an interrupted inference: {e}")))?;
                differing(&then, how).map_or(Ok(true), |what| Err(other(what)))?
            }
        };
        let batches = lines
            .map(|line| serde_json::from_slice(line).map_err(|e| other(format!("is damaged: {e}"))))
            .collect::<Result<Vec<Vec<Verdict>>, _>>()?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        let mut journal = Self { path, file };
        if !begun {
            journal.line(how)?;
        }
        Ok((journal, batches))
    }

    /// Adds a batch's verdicts.
    pub(super) fn add(&mut self, batch: &[Verdict]) -> Result<(), Failure> {
        self.line(&serde_json::to_value(batch).map_err(Failure::other)?)
    }

    fn line(&mut self, value: &Value) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::other(format!("{}: {e}", self.path.display()));
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(failed)
    }

    /// Removes it: the output is written.
    pub(super) fn finish(self) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).map_err(|e| Failure::other(format!("{}: {e}", self.path.display())))
    }
}

/// The first setting in which two ways of judging differ, in a sentence.
fn differing(then: &Value, now: &Value) -> Option<String> {
    let mut keys = now.as_object()?.keys().map(String::as_str);
    let key = keys.find(|&key| then[key] != now[key])?;
    Some(format!("it was begun with another {key}: {}, now {}", then[key], now[key]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn batch(name: &str) -> Vec<Verdict> {
        vec![Verdict::Failed { path: name.into(), error: "e".into() }]
    }

    #[test]
    fn whole_batches_survive_and_a_cut_one_is_judged_again() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("scores.txt");
        let how = json!({"seed": 1});
        let (mut journal, held) = Journal::open(&output, &how).unwrap();
        assert_eq!(held, Vec::<Vec<Verdict>>::new());
        journal.add(&batch("a")).unwrap();
        journal.add(&batch("b")).unwrap();
        let progress = folder.path().join("scores.txt.progress");
        let bytes = std::fs::read(&progress).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&progress, &bytes[..cut]).unwrap();
            let (mut journal, held) = Journal::open(&output, &how).unwrap();
            for name in ["a", "b"].into_iter().skip(held.len()) {
                journal.add(&batch(name)).unwrap();
            }
            assert_eq!(std::fs::read(&progress).unwrap(), bytes, "cut at {cut}");
        }
        let (journal, held) = Journal::open(&output, &how).unwrap();
        assert_eq!(held, [batch("a"), batch("b")]);
        journal.finish().unwrap();
        assert!(!progress.exists());
    }

    #[test]
    fn other_settings_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("scores.txt");
        drop(Journal::open(&output, &json!({"seed": 1, "batch": 8})).unwrap());
        let said = Journal::open(&output, &json!({"seed": 2, "batch": 8})).map(drop).unwrap_err();
        assert!(said.message.contains("another seed: 1, now 2") && said.exit_code == 2, "{said}");
        std::fs::write(folder.path().join("scores.txt.progress"), "a.png 3\n").unwrap();
        assert!(Journal::open(&output, &json!({})).is_err_and(|e| e.message.contains("no record")));
    }
}
