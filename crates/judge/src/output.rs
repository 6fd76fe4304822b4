//! The files that are left in the end.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::asked::Asked;
use crate::done::Done;
use crate::error::Error;
use crate::verdict::Verdict;
use crate::work::{Work, beside};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Items with a score.
    pub scored: usize,
    /// Items that could not be judged.
    pub failed: usize,
}

/// Writes scores, failures and, where it is asked for, reasoning, in the order of the items; then removes the progress
/// files.
///
/// # Errors
/// If something is not judged yet, nothing at all could be judged, or a file cannot be written.
pub fn finish(asked: &Asked, work: &Work, done: &Done) -> Result<Summary, Error> {
    if done.left(work) > 0 {
        return Err(Error::file(&asked.output, format!("{} batches are not judged", done.left(work))));
    }
    let (scored, failed): (Vec<&Verdict>, Vec<&Verdict>) =
        done.verdicts().partition(|verdict| matches!(verdict, Verdict::Scored { .. }));
    let line = |verdict: &&Verdict| match verdict {
        Verdict::Scored { path, score, .. } => Some(format!("{path} {score}\n")),
        Verdict::Failed { .. } => None,
    };
    let scores: String = scored.iter().filter_map(line).collect();
    let failures = beside(&asked.output, ".failures");
    if let Some(path) = &asked.reasoning {
        write_lines(path, &scored)?;
    }
    write_lines(&failures, &failed)?;
    in_place(&asked.output, |partial| fs::write(partial, &scores))?;
    for path in work.all_progress()? {
        fs::remove_file(&path).map_err(|e| Error::file(&path, e))?;
    }
    if scored.is_empty() {
        return Err(Error::Input(format!(
            "none of the {} inputs could be judged: {} says why",
            failed.len(),
            failures.display()
        )));
    }
    Ok(Summary { scored: scored.len(), failed: failed.len() })
}

fn write_lines<T: Serialize>(path: &Path, lines: &[T]) -> Result<(), Error> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(|e| Error::file(path, e))?;
        text.push(b'\n');
    }
    in_place(path, |partial| fs::write(partial, &text))
}

/// Lets `write` fill a file beside `path`, then renames it into place; a pipe or a device is written to as it is.
///
/// # Errors
/// If the file system refuses, or `write` fails; what was at `path` then stays.
pub fn in_place<E: Display>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), Error> {
    let partial = beside(path, ".partial");
    let failed = |e: &dyn Display| {
        let _ = fs::remove_file(&partial);
        Error::file(path, e)
    };
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return write(path).map_err(|e| failed(&e));
    }
    write(&partial).map_err(|e| failed(&e))?;
    fs::rename(&partial, path).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::journal::Journal;
    use crate::testing::asked;
    use crate::work::testing::work;

    #[test]
    fn the_files_are_in_the_order_of_the_items_whoever_judged_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let asked = Asked { reasoning: Some(at("why.jsonl")), ..asked(&at("scores.txt")) };
        let work = work(folder.path(), &["a", "b", "c"], json!({}));
        let scored = |path: &str, score| {
            let aspects = vec![vec![score]];
            vec![Verdict::Scored { path: path.into(), score, aspects, texts: vec!["t".into()] }]
        };
        let (mut one, _) = Journal::open(&work, Some("1/2".parse().unwrap())).unwrap();
        one.add(1, &[Verdict::Failed { path: "b".into(), error: "unreadable".into() }]).unwrap();
        let done = Done::read(&work).unwrap();
        assert!(finish(&asked, &work, &done).unwrap_err().to_string().contains("2 batches are not judged"));
        let (mut zero, _) = Journal::open(&work, Some("0/2".parse().unwrap())).unwrap();
        zero.add(2, &scored("c", 3.25)).unwrap();
        zero.add(0, &scored("a", 4.0)).unwrap();
        let done = Done::read(&work).unwrap();
        assert_eq!(finish(&asked, &work, &done), Ok(Summary { scored: 2, failed: 1 }));
        let read = |name: &str| fs::read_to_string(at(name)).unwrap();
        assert_eq!(read("scores.txt"), "a 4\nc 3.25\n");
        assert_eq!(read("scores.txt.failures"), "{\"path\":\"b\",\"error\":\"unreadable\"}\n");
        assert!(read("why.jsonl").starts_with(r#"{"path":"a","score":4.0,"aspects":[[4.0]],"texts":["t"]}"#));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no progress is left");
    }
}
