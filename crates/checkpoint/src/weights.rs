//! Reading of a checkpoint's weights: safetensors files, mapped, never trusted.
//!
//! A directory holds either `model.safetensors` or shards listed by `model.safetensors.index.json`. Headers are
//! checked against the files' lengths before any tensor is handed out; an index cannot point outside its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
pub use safetensors::tensor::Dtype;

use crate::header::{Entry, entries};
use crate::pieces::each_piece;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A published index of a 72B model is about 100 kB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// Neither one file nor an index.
    #[error("{}: expected {SINGLE} or {INDEX}", .0.display())]
    Missing(PathBuf),
    /// A file could not be opened or mapped.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A header that is cut short, is no JSON, or lies about offsets.
    #[error("{}: not a whole safetensors file: {message}", path.display())]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An index that cannot be used.
    #[error("{}: {message}", path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// A tensor in a mapped file.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each dimension.
    pub shape: &'a [usize],
    /// Row-major, little-endian elements; not necessarily aligned.
    pub bytes: &'a [u8],
    file: &'a File,
    start: usize,
}

impl View<'_> {
    /// Reads the bytes in pieces of whole elements, and hands them to `each`, one after the other, while it says so;
    /// whether all were. So a tensor of any size is copied with little memory besides the copy, and a file that is cut
    /// short meanwhile is an error.
    ///
    /// # Errors
    /// If the file cannot be read, and those of `each`.
    pub fn each_piece<E: From<io::Error>>(
        &self,
        each: impl FnMut(&[u8]) -> Result<bool, E>,
    ) -> Result<bool, E> {
        each_piece(self.file, self.start..self.start + self.bytes.len(), each)
    }
}

/// All weights of a directory, by their names in the files.
#[derive(Debug)]
pub struct WeightFiles {
    shards: Vec<Shard>,
    /// Name → shard.
    places: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
}

impl WeightFiles {
    /// Maps the weights of `folder` and checks every header.
    ///
    /// # Errors
    /// If there are no weights, a shard is missing or damaged, or the index and its shards disagree.
    pub fn open(folder: &Path) -> Result<Self, WeightError> {
        let single = folder.join(SINGLE);
        if single.is_file() {
            return Self::open_file(&single);
        }
        let index = folder.join(INDEX);
        if !index.is_file() {
            return Err(WeightError::Missing(folder.to_owned()));
        }
        Self::open_shards(folder, &index)
    }

    /// Maps one safetensors file and checks its header.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn open_file(path: &Path) -> Result<Self, WeightError> {
        let shard = Shard::open(path.to_owned())?;
        let places = shard.entries.keys().map(|name| (name.clone(), 0)).collect();
        Ok(Self { shards: vec![shard], places })
    }

    fn open_shards(folder: &Path, index: &Path) -> Result<Self, WeightError> {
        let listed = read_index(index)?;
        let wrong = |message: String| WeightError::Index { path: index.to_owned(), message };
        let files: BTreeSet<&str> = listed.values().map(String::as_str).collect();
        let absent: Vec<&str> = files.iter().copied().filter(|file| !folder.join(file).is_file()).collect();
        if !absent.is_empty() {
            return Err(wrong(format!("missing beside it: {}", absent.join(", "))));
        }
        let mut shards = Vec::new();
        let mut places = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            let shard = Shard::open(folder.join(file))?;
            for name in shard.entries.keys() {
                if listed.get(name).is_none_or(|home| home == file)
                    && places.insert(name.clone(), number).is_some()
                {
                    return Err(wrong(format!("tensor {name}, which it does not list, is in several files")));
                }
            }
            shards.push(shard);
        }
        let lost: Vec<String> = listed
            .iter()
            .filter(|(name, _)| !places.contains_key(*name))
            .map(|(name, file)| format!("{name} is not in {file}"))
            .collect();
        if lost.is_empty() { Ok(Self { shards, places }) } else { Err(wrong(lost.join("; "))) }
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The tensor called `name`, if there is one.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<View<'_>> {
        let shard = &self.shards[*self.places.get(name)?];
        let entry = shard.entries.get(name)?;
        let bytes = &shard.map[entry.bytes.clone()];
        Some(View {
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes,
            file: &shard.file,
            start: entry.bytes.start,
        })
    }

    /// The file that the tensor called `name` lies in.
    #[must_use]
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        Some(&self.shards[*self.places.get(name)?].path)
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, WeightError> {
        let read = |source| WeightError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(read)?;
        // SAFETY: the mapping is read-only and private to this process. Weight files are replaced whole (written
        // beside and renamed), never changed in place; one truncated while mapped ends the process by SIGBUS.
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        let header = |message| WeightError::Header { path: path.clone(), message };
        let entries = entries(&map).map_err(header)?;
        Ok(Self { path, file, map, entries })
    }
}

/// Tensor name → file name, every file name a plain one.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, WeightError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let read = |source| WeightError::Read { path: path.to_owned(), source };
    let wrong = |message: String| WeightError::Index { path: path.to_owned(), message };
    let bytes = std::fs::metadata(path).map_err(read)?.len();
    if bytes > MAX_INDEX_BYTES {
        return Err(wrong(format!("{bytes} bytes are no weight index (at most {MAX_INDEX_BYTES})")));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let index: Index = serde_json::from_str(&text).map_err(|e| wrong(format!("no weight index: {e}")))?;
    if index.weight_map.is_empty() {
        return Err(wrong("weight_map lists no tensor".to_owned()));
    }
    for (name, file) in &index.weight_map {
        let mut parts = Path::new(file).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain {
            return Err(wrong(format!(
                "tensor {name} is said to be in \"{file}\", which is not a file of this directory"
            )));
        }
    }
    Ok(index.weight_map)
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
