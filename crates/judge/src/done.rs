//! What is judged already, by whomever.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::verdict::Verdict;
use crate::work::Work;

/// A line of a progress file, after the first one, which says how things are judged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) batch: usize,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Verdicts of the batches that are done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    batches: BTreeMap<usize, Vec<Verdict>>,
}

impl Done {
    /// What all progress files beside the output hold. A last line that is cut off counts for nothing.
    ///
    /// # Errors
    /// If one cannot be read, is damaged, or was begun with other settings or other items.
    pub fn read(work: &Work) -> Result<Self, Error> {
        let mut done = Self::default();
        for path in work.all_progress()? {
            let bytes = fs::read(&path).map_err(|e| Error::file(&path, e))?;
            done.take(&path, &bytes[..whole(&bytes)], work)?;
        }
        Ok(done)
    }

    fn take(&mut self, path: &Path, text: &[u8], work: &Work) -> Result<(), Error> {
        let other = |what: String| {
            Error::Input(format!(
                "{}: {what}; remove it to begin anew, or give the settings that it was begun with",
                path.display()
            ))
        };
        let mut lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let Some(first) = lines.next() else { return Ok(()) };
        let then: Value = serde_json::from_slice(first)
            .map_err(|e| other(format!("is no record of an interrupted inference: {e}")))?;
        if let Some(what) = differing(&then, &work.how) {
            return Err(other(what));
        }
        for line in lines {
            let Line { batch, verdicts } =
                serde_json::from_slice(line).map_err(|e| other(format!("is damaged: {e}")))?;
            let items = work.batch(batch);
            let same = verdicts.iter().map(Verdict::path).eq(items.iter().map(|item| item.name.as_str()));
            if items.is_empty() || !same {
                return Err(Error::Input(format!(
                    "{}: what is to be judged has changed since it was begun; remove it to begin anew",
                    path.display()
                )));
            }
            self.batches.insert(batch, verdicts);
        }
        Ok(())
    }

    /// Whether a batch is judged.
    #[must_use]
    pub fn has(&self, batch: usize) -> bool {
        self.batches.contains_key(&batch)
    }

    /// Adds a batch's verdicts.
    pub fn add(&mut self, batch: usize, verdicts: Vec<Verdict>) {
        self.batches.insert(batch, verdicts);
    }

    /// Items judged.
    #[must_use]
    pub fn items(&self) -> usize {
        self.batches.values().map(Vec::len).sum()
    }

    /// Batches that are not judged.
    #[must_use]
    pub fn left(&self, work: &Work) -> usize {
        work.batches() - self.batches.len()
    }

    /// In the order of the items.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.batches.values().flatten()
    }
}

/// The first setting in which two ways of judging differ, in a sentence; one that only one of them names is not
/// compared: where several processes judge, each has its own device and threads.
fn differing(then: &Value, now: &Value) -> Option<String> {
    let Some(held) = then.as_object() else { return Some("its first line holds no settings".into()) };
    let mut both = now.as_object()?.iter().filter_map(|(key, now)| Some((key, held.get(key)?, now)));
    let (key, then, now) = both.find(|(_, then, now)| then != now)?;
    Some(format!("it was begun with another {key}: {then}, now {now}"))
}

/// How many bytes the whole lines are.
pub(crate) fn whole(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

/// How far a work is, for people: each look reads on where the last one ended.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Bytes and lines read of each progress file.
    files: BTreeMap<PathBuf, (u64, usize)>,
}

impl Meter {
    /// Looks into all progress files; what cannot be read counts at the next look.
    pub fn look(&mut self, work: &Work) {
        for path in work.all_progress().unwrap_or_default() {
            let (bytes, lines) = self.files.entry(path.clone()).or_default();
            if let Ok((read, found)) = lines_after(&path, *bytes) {
                *bytes += read;
                *lines += found;
            }
        }
    }

    /// Batches that a share's process has judged, at the last look.
    #[must_use]
    pub fn of_share(&self, work: &Work, index: usize) -> usize {
        let name = work.progress(Some(index)).file_name().map(ToOwned::to_owned);
        let file = self.files.iter().find(|(path, _)| path.file_name() == name.as_deref());
        file.map_or(0, |(_, (_, lines))| lines.saturating_sub(1))
    }

    /// Items that are judged, at the last look: whole batches, of which the last one may be shorter.
    #[must_use]
    pub fn items(&self, work: &Work) -> usize {
        let batches: usize = self.files.values().map(|(_, lines)| lines.saturating_sub(1)).sum();
        (batches * work.batch).min(work.items.len())
    }
}

/// Bytes and number of the whole lines that follow so many bytes.
fn lines_after(path: &Path, start: u64) -> io::Result<(u64, usize)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let bytes = &bytes[..whole(&bytes)];
    Ok((bytes.len() as u64, bytes.iter().filter(|&&byte| byte == b'\n').count()))
}
