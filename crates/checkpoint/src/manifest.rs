//! `manifest.json`: what a published folder holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::publish::{PublishError, write_synced};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// No honest manifest is larger; a larger one is refused unread.
const MANIFEST_BYTES: u64 = 4 << 20;

/// What a published folder holds: every file with size and digest, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Path within the checkpoint to size and digest.
    pub files: BTreeMap<String, FileDigest>,
    /// What the folder is, for people and for resuming: run, stage, step, weights digest.
    #[serde(default)]
    pub about: BTreeMap<String, String>,
}

/// Size and digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Size, bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Writes and syncs it in `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), PublishError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| PublishError::Malformed { path: path.clone(), reason: e.to_string() })?;
        write_synced(&path, text.as_bytes())
    }

    /// Reads it from `folder`.
    ///
    /// # Errors
    /// If it is missing, too large, not a manifest, or names a file outside the folder.
    pub fn read(folder: &Path) -> Result<Self, PublishError> {
        let path = folder.join(MANIFEST);
        let malformed = |reason: String| PublishError::Malformed { path: path.clone(), reason };
        let mut text = String::new();
        let file = File::open(&path).map_err(PublishError::io("read", &path))?;
        let read = file.take(MANIFEST_BYTES + 1).read_to_string(&mut text);
        if read.map_err(PublishError::io("read", &path))? as u64 > MANIFEST_BYTES {
            return Err(malformed(format!("larger than {MANIFEST_BYTES} bytes: not a manifest")));
        }
        let manifest: Self = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        match manifest.files.keys().find(|name| !stays_within(name)) {
            Some(name) => Err(malformed(format!("lists {name:?}, expected files within its folder"))),
            None => Ok(manifest),
        }
    }
}

/// Whether `name` is a file's in a checkpoint's folder or in a folder of that, `adapter/adapter_config.json`.
#[must_use]
pub fn stays_within(name: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(name).components().collect();
    (1..=2).contains(&parts.len())
        && parts.iter().all(|part| matches!(part, Component::Normal(_)))
        && !name.ends_with('/')
        && name != MANIFEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Result<Manifest, PublishError> {
        let root = tempfile::tempdir().expect("temporary folder");
        std::fs::write(root.path().join(MANIFEST), text).expect("writable");
        Manifest::read(root.path())
    }

    #[test]
    fn a_manifest_that_points_outside_its_folder_is_refused() {
        for name in ["../a", "/etc/passwd", "a/../../b", "a/b/c", "a/", "", ".", "manifest.json"] {
            let text = format!(r#"{{"files":{{"{name}":{{"bytes":1,"sha256":""}}}}}}"#);
            assert!(reading(&text).is_err(), "{name:?} was taken");
        }
        for name in ["a.b", "adapter/a.b"] {
            let text = format!(r#"{{"files":{{"{name}":{{"bytes":1,"sha256":""}}}}}}"#);
            assert!(reading(&text).is_ok(), "{name:?} was refused");
        }
    }

    #[test]
    fn a_huge_manifest_is_refused_unread() {
        let text = " ".repeat(MANIFEST_BYTES as usize + 1);
        assert!(reading(&text).expect_err("huge").to_string().contains("larger"));
    }
}
