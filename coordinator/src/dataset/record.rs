//! `dataset.json`: what a data set was made from, so that it is made once.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::Settings;
use super::scan::hex;
use crate::failure::Failure;

/// Raised when the same settings give other bytes than before.
const FORMAT: u32 = 1;

pub(super) const RECORD: &str = "dataset.json";
pub(super) const SUMS: &str = "SHA256SUMS";

/// Everything that the bytes depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Inputs {
    format: u32,
    settings: Settings,
    /// Name, SHA-256 and wished split of every photograph that was offered.
    photographs: Vec<(String, String, Option<String>)>,
}

impl Inputs {
    pub(super) fn new(settings: &Settings, photographs: Vec<(String, String, Option<String>)>) -> Self {
        Self { format: FORMAT, settings: settings.clone(), photographs }
    }
}

/// What lies in `dataset.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) inputs: Inputs,
    /// Photographs that are used.
    pub(super) photographs: usize,
    /// Distorted pictures in train, validation and test.
    pub(super) pictures: [usize; 3],
    /// SHA-256 of `SHA256SUMS`: one number for all bytes.
    pub(super) digest: String,
}

/// What an output folder holds already.
#[derive(Debug, PartialEq)]
pub(super) enum Present {
    /// Nothing is there, or an empty folder.
    Nothing,
    /// The same data set, whole.
    Same(Box<Record>),
    /// Something else; why it is not the same.
    Other(String),
}

/// Compares what lies in `folder` with what would be made; every file's bytes are looked at.
pub(super) fn present(folder: &Path, inputs: &Inputs) -> Present {
    if fs::read_dir(folder).map_or(!folder.exists(), |mut entries| entries.next().is_none()) {
        return Present::Nothing;
    }
    let Ok(text) = fs::read_to_string(folder.join(RECORD)) else {
        return Present::Other(format!("there is something in it, but no {RECORD}"));
    };
    let record: Record = match serde_json::from_str(&text) {
        Ok(record) => record,
        Err(e) => return Present::Other(format!("its {RECORD} cannot be read: {e}")),
    };
    if record.inputs != *inputs {
        return Present::Other("it was made from other photographs or settings".into());
    }
    match damage(folder, &record.digest) {
        Some(what) => Present::Other(what),
        None => Present::Same(Box::new(record)),
    }
}

fn damage(folder: &Path, digest: &str) -> Option<String> {
    let Ok(sums) = fs::read_to_string(folder.join(SUMS)) else {
        return Some(format!("its {SUMS} is missing"));
    };
    if hex(&Sha256::digest(&sums)) != digest {
        return Some(format!("its {SUMS} was changed"));
    }
    let changed = |line: &&str| {
        let (sum, name) = line.split_once("  ").unwrap_or((line, ""));
        fs::read(folder.join(name)).map_or(true, |bytes| hex(&Sha256::digest(bytes)) != sum)
    };
    sums.lines()
        .find(changed)
        .map(|line| format!("{} is missing or was changed", line.split("  ").last().unwrap_or("")))
}

/// `SHA256SUMS` in `sha256sum`'s format, by name, and its own SHA-256.
pub(super) fn sums(mut files: Vec<(String, String)>) -> (String, String) {
    files.sort();
    let text: String = files.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    let digest = hex(&Sha256::digest(&text));
    (text, digest)
}

/// Writes a file and answers its name and SHA-256.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(String, String), Failure> {
    let path = folder.join(name);
    fs::write(&path, bytes)
        .map_err(|e| Failure::other(format!("{}: cannot be written: {e}", path.display())))?;
    Ok((name.to_owned(), hex(&Sha256::digest(bytes))))
}
