//! What one process has judged, so that an interrupted command goes on where it was.
//!
//! `OUTPUT.progress`, or `OUTPUT.progress-I` of share I, holds JSON lines: how things are judged, then the verdicts of a
//! batch each. A batch is whole or not there. Whoever goes on reads the files of all, so the number of shares may
//! change in between.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::done::{Done, Line, whole};
use crate::error::Error;
use crate::share::Share;
use crate::verdict::Verdict;
use crate::work::Work;

/// How long a share waits for a process that its command's last start has left behind, which is about to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// One process's open progress file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens a share's file, or the whole's, and what all files hold. A last line that is cut off is dropped.
    ///
    /// # Errors
    /// If another process has it open, or as [`Done::read`].
    pub fn open(work: &Work, share: Option<Share>) -> Result<(Self, Done), Error> {
        let path = work.progress(share.map(|share| share.index));
        let failed = |e: io::Error| Error::file(&path, e);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(failed)?;
        if !lock(&file, share.map_or(Duration::ZERO, |_| PATIENCE)) {
            return Err(Error::Busy(path.display().to_string()));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let length = whole(&bytes);
        file.set_len(length as u64).map_err(failed)?;
        let mut journal = Self { path, file };
        let done = Done::read(work)?;
        if length == 0 {
            journal.line(&work.how)?;
        }
        Ok((journal, done))
    }

    /// Adds a batch's verdicts.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn add(&mut self, batch: usize, verdicts: &[Verdict]) -> Result<(), Error> {
        let line = Line { batch, verdicts: verdicts.to_vec() };
        let line = serde_json::to_value(line).map_err(|e| Error::file(&self.path, e))?;
        self.line(&line)
    }

    fn line(&mut self, value: &Value) -> Result<(), Error> {
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(|e| Error::file(&self.path, e))
    }
}

/// Whether the file is now ours alone. A file system without locks has none to wait for.
fn lock(file: &File, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return false,
            Ok(()) | Err(TryLockError::Error(_)) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::work::testing::work;

    fn batch(name: &str) -> Vec<Verdict> {
        vec![Verdict::Failed { path: name.into(), error: "e".into() }]
    }

    #[test]
    fn whole_batches_survive_and_a_cut_one_is_judged_again() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(folder.path(), &["a", "b"], json!({"seed": 1}));
        let go_on = || {
            let (mut journal, done) = Journal::open(&work, None).unwrap();
            for (number, name) in ["a", "b"].into_iter().enumerate().filter(|(n, _)| !done.has(*n)) {
                journal.add(number, &batch(name)).unwrap();
            }
        };
        go_on();
        let progress = folder.path().join("scores.txt.progress");
        let bytes = fs::read(&progress).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&progress, &bytes[..cut]).unwrap();
            go_on();
            assert_eq!(fs::read(&progress).unwrap(), bytes, "cut at {cut}");
        }
        assert_eq!(Done::read(&work).unwrap().left(&work), 0);
    }

    #[test]
    fn what_others_have_done_is_done_whatever_the_shares_were() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(folder.path(), &["a", "b", "c"], json!({"seed": 1}));
        let share = |text: &str| Some(text.parse().unwrap());
        let (mut first, _) = Journal::open(&work, share("0/2")).unwrap();
        first.add(2, &batch("c")).unwrap();
        let (mut second, done) = Journal::open(&work, share("1/2")).unwrap();
        assert!(done.has(2) && !done.has(0));
        second.add(1, &batch("b")).unwrap();
        drop((first, second));
        // A worker that died in the middle of a line.
        let torn = folder.path().join("scores.txt.progress-5");
        fs::write(torn, "{\"seed\":1}\n{\"batch\":0,\"verd").unwrap();
        let (_, done) = Journal::open(&work, None).unwrap();
        assert_eq!((done.items(), done.left(&work)), (2, 1));
    }

    #[test]
    fn two_processes_do_not_judge_into_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(folder.path(), &["a"], json!({}));
        let held = Journal::open(&work, None).unwrap();
        let said = Journal::open(&work, None).map(drop).unwrap_err();
        assert!(matches!(&said, Error::Busy(path) if path.ends_with("scores.txt.progress")), "{said}");
        drop(held);
        assert!(Journal::open(&work, None).is_ok());
    }

    #[test]
    fn other_settings_are_refused_by_name_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let of = |how| work(folder.path(), &["a"], how);
        drop(Journal::open(&of(json!({"seed": 1, "batch": 8, "threads": 1})), None).unwrap());
        let share = Some("0/1".parse().unwrap());
        let said = Journal::open(&of(json!({"seed": 2, "batch": 8})), share).map(drop).unwrap_err();
        assert!(said.to_string().contains("another seed: 1, now 2"), "{said}");
        // What one of them does not name may be anything; and the refused one is not in the way.
        assert!(Journal::open(&of(json!({"seed": 1, "batch": 8})), share).is_ok());
        fs::write(folder.path().join("scores.txt.progress"), "a.png 3\n").unwrap();
        assert!(Done::read(&of(json!({}))).is_err_and(|e| e.to_string().contains("no record")));
    }

    #[test]
    fn other_items_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&work(folder.path(), &["a", "b"], json!({})), None).unwrap();
        journal.add(1, &batch("b")).unwrap();
        for items in [&["a", "c"][..], &["a"]] {
            let said = Done::read(&work(folder.path(), items, json!({}))).unwrap_err().to_string();
            assert!(said.contains("what is to be judged has changed"), "{said}");
        }
    }
}
