//! The whole of what is to be judged, in batches.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::asked::Asked;
use crate::error::Error;
use crate::listing::Item;

/// Items in batches by their place: one that is judged again meets the same neighbours, whoever judges it, and has the
/// same answer to the last bit (on the same threads of the same kind of processor).
#[derive(Clone, Debug)]
pub struct Work {
    /// In the order of the output.
    pub items: Vec<Item>,
    pub(crate) output: PathBuf,
    pub(crate) how: Value,
    pub(crate) batch: usize,
}

impl Work {
    /// Of what is asked.
    ///
    /// # Errors
    /// If there is no model or nothing to judge.
    pub fn of(asked: &Asked) -> Result<Self, Error> {
        let (items, how) = (asked.items()?, asked.how()?);
        Ok(Self { items, output: asked.output.clone(), how, batch: asked.batch.get() })
    }

    /// Adds a setting that decides an answer where one process judges everything.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.how[key] = value;
        self
    }

    /// How many batches there are.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.items.len().div_ceil(self.batch)
    }

    /// A batch's items; none beyond the last batch.
    #[must_use]
    pub fn batch(&self, number: usize) -> &[Item] {
        self.items.chunks(self.batch).nth(number).unwrap_or_default()
    }

    /// The file in which a process keeps what it has done: its share's, or everything's.
    pub(crate) fn progress(&self, share: Option<usize>) -> PathBuf {
        let ending = share.map_or_else(|| ".progress".to_owned(), |index| format!(".progress-{index}"));
        beside(&self.output, &ending)
    }

    /// All such files that are there, by name.
    pub(crate) fn all_progress(&self) -> Result<Vec<PathBuf>, Error> {
        let alone = self.progress(None);
        let prefix = alone.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = alone.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(folder)
            .map_err(|e| Error::Input(format!("{}: {e}; expected a folder to write to", folder.display())))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_one = |name: &String| {
            let rest = name.strip_prefix(&prefix);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.strip_prefix('-').is_some_and(|index| index.parse::<usize>().is_ok())
            })
        };
        let mut found: Vec<PathBuf> = names.filter(is_one).map(|name| folder.join(name)).collect();
        found.sort();
        Ok(found)
    }
}

/// A path with an ending added to its name.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Pictures of these names in batches of one, into `folder/scores.txt`.
    pub(crate) fn work(folder: &Path, names: &[&str], how: Value) -> Work {
        let item = |name: &&str| Item { name: (*name).into(), files: vec![(*name).into()], video: false };
        Work { items: names.iter().map(item).collect(), output: folder.join("scores.txt"), how, batch: 1 }
    }
}
