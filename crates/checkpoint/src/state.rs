//! `training_state.json`: how far a saved training state is, and the optimizer that made it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::export::write_file;
use crate::manifest::FileDigest;
use crate::publish::PublishError;

/// The file's name.
pub const STATE_ABOUT: &str = "training_state.json";

/// What a saved training state is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateAbout {
    /// Optimizer steps that it has in it.
    pub steps: u64,
    /// What its moments were made with: the recipe's `optimizer:` keys.
    pub optimizer: BTreeMap<String, Value>,
}

impl StateAbout {
    /// Writes and syncs it in `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<FileDigest, PublishError> {
        let path = folder.join(STATE_ABOUT);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| PublishError::Malformed { path: path.clone(), reason: e.to_string() })?;
        write_file(&path, format!("{text}\n").as_bytes())
    }

    /// Reads it from `folder`.
    ///
    /// # Errors
    /// If `folder` holds no saved state, or it is malformed.
    pub fn read(folder: &Path) -> Result<Self, PublishError> {
        let path = folder.join(STATE_ABOUT);
        let malformed = |reason: String| PublishError::Malformed { path: path.clone(), reason };
        let text = fs::read_to_string(&path).map_err(|e| {
            malformed(format!("{e}; expected a folder that was written with the optimizer's state"))
        })?;
        serde_json::from_str(&text).map_err(|e| malformed(format!("{e}; expected {{steps, optimizer}}")))
    }

    /// The first of `keys` that is not now what it was: its name, as it was, as it is.
    #[must_use]
    pub fn differs(&self, now: &Self, keys: &[&str]) -> Option<(String, String, String)> {
        // As a file gives it back: a number that was read may differ from the one written in its last bit.
        let read =
            |value: &Value| serde_json::from_str(&value.to_string()).unwrap_or(Value::Null).to_string();
        let said = |about: &Self, key: &str| about.optimizer.get(key).map_or("not said".to_owned(), read);
        let pairs = keys.iter().map(|key| ((*key).to_owned(), said(self, key), said(now, key)));
        pairs.into_iter().find(|(_, was, is)| was != is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_changed_key_is_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let keys = |eps: f64| BTreeMap::from([("eps".to_owned(), Value::from(eps)), ("lr".into(), 1.into())]);
        let about = StateAbout { steps: 3, optimizer: keys(1e-8) };
        about.write(folder.path()).expect("writable");
        let read = StateAbout::read(folder.path()).expect("readable");
        assert_eq!(read, about);
        let other = StateAbout { steps: 0, optimizer: keys(1e-6) };
        assert_eq!(read.differs(&other, &["lr", "eps"]), Some(("eps".into(), "1e-8".into(), "1e-6".into())));
        assert_eq!(read.differs(&other, &["lr"]), None);
    }

    #[test]
    fn a_folder_without_a_state_is_refused_with_what_was_expected() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let error = StateAbout::read(folder.path()).expect_err("empty").to_string();
        assert!(error.contains("training_state.json") && error.contains("optimizer's state"), "{error}");
    }
}
