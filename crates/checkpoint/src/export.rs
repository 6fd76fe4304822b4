//! A Hugging Face directory: weights under their published names beside the files of the source checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{View, serialize_to_file};
use serde_json::{Value, json};

use crate::manifest::FileDigest;
use crate::publish::{PublishError, seal, write_synced};

/// Files written, by name.
pub type Files = BTreeMap<String, FileDigest>;

/// Size at which a weight file ends and the next begins, bytes; transformers' own default.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// What makes a directory loadable besides `config.json` and weights; copied where the source has it.
const COMPANIONS: [&str; 13] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
];

/// Writes a Hugging Face directory of `weights`, see [`Export`].
///
/// # Errors
/// If `source` has no `config.json`, or a file cannot be read or written.
pub fn export<V: View>(
    source: &Path,
    folder: &Path,
    weights: BTreeMap<String, V>,
    dtype: &str,
    shard_bytes: u64,
) -> Result<Files, PublishError> {
    let mut export = Export::begin(source, folder, dtype, shard_bytes)?;
    for (name, weight) in weights {
        export.add(name, weight)?;
    }
    export.finish()
}

/// A Hugging Face directory being written. A file of weights goes to disk when it is full: no more than one file's
/// tensors are held.
#[derive(Debug)]
pub struct Export<V> {
    folder: PathBuf,
    shard_bytes: u64,
    files: Files,
    /// The file being filled.
    shard: BTreeMap<String, V>,
    filled: u64,
    /// Files of weights on disk, with the names in each.
    written: Vec<(FileDigest, Vec<String>)>,
    total: u64,
}

impl<V: View> Export<V> {
    /// Writes `config.json` and the tokenizer's and processor's files of `source` into `folder`, and syncs them.
    /// `dtype` is the weights' type as configuration files spell it, `bfloat16` or `float32`; a file of weights
    /// holds at most `shard_bytes`, or one tensor.
    ///
    /// # Errors
    /// If `source` has no `config.json`, or a file cannot be read or written.
    pub fn begin(source: &Path, folder: &Path, dtype: &str, shard_bytes: u64) -> Result<Self, PublishError> {
        let mut files = Files::new();
        write_config(source, folder, dtype)?;
        let companions = COMPANIONS.iter().filter(|name| source.join(name).is_file());
        for name in companions {
            let to = folder.join(name);
            fs::copy(source.join(name), &to).map_err(PublishError::io("write", &to))?;
            files.insert((*name).to_owned(), seal(&to)?);
        }
        files.insert("config.json".to_owned(), seal(&folder.join("config.json"))?);
        let folder = folder.to_owned();
        let (shard, written) = (BTreeMap::new(), Vec::new());
        Ok(Self { folder, shard_bytes, files, shard, filled: 0, written, total: 0 })
    }

    /// Adds a tensor under its published name. Its bytes are asked for when its file is written.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn add(&mut self, name: String, tensor: V) -> Result<(), PublishError> {
        let bytes = tensor.data_len() as u64;
        if self.filled > 0 && self.filled + bytes > self.shard_bytes {
            self.flush()?;
        }
        self.filled += bytes;
        self.total += bytes;
        self.shard.insert(name, tensor);
        Ok(())
    }

    /// Writes what is left, and names the files: `model.safetensors`, or numbered shards with their index.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(mut self) -> Result<Files, PublishError> {
        if self.filled > 0 || self.written.is_empty() {
            self.flush()?;
        }
        let count = self.written.len();
        let mut weight_map = BTreeMap::new();
        for (i, (digest, tensors)) in std::mem::take(&mut self.written).into_iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            let to = self.folder.join(&name);
            fs::rename(self.unnamed(i), &to).map_err(PublishError::io("write", &to))?;
            weight_map.extend(tensors.into_iter().map(|tensor| (tensor, name.clone())));
            self.files.insert(name, digest);
        }
        if count > 1 {
            let index = self.folder.join("model.safetensors.index.json");
            let text = json!({ "metadata": { "total_size": self.total }, "weight_map": weight_map });
            write_synced(&index, text.to_string().as_bytes())?;
            self.files.insert("model.safetensors.index.json".to_owned(), seal(&index)?);
        }
        Ok(self.files)
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        let shard = std::mem::take(&mut self.shard);
        let names = shard.keys().cloned().collect();
        let digest = write_tensors(&self.unnamed(self.written.len()), shard)?;
        self.written.push((digest, names));
        self.filled = 0;
        Ok(())
    }

    /// Where a file lies until it is known how many there are.
    fn unnamed(&self, number: usize) -> PathBuf {
        self.folder.join(format!("model-{:05}.safetensors.partial", number + 1))
    }
}

/// Writes one safetensors file and syncs it.
///
/// # Errors
/// If it cannot be laid out or written.
pub fn write_tensors<V: View>(path: &Path, tensors: BTreeMap<String, V>) -> Result<FileDigest, PublishError> {
    // transformers refuses a file that does not say which framework's layout it has.
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(tensors, Some(about), path)
        .map_err(|e| PublishError::Layout { path: path.to_owned(), reason: e.to_string() })?;
    seal(path)
}

/// Writes a small file and syncs it.
///
/// # Errors
/// If it cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<FileDigest, PublishError> {
    write_synced(path, bytes)?;
    seal(path)
}

/// Makes a folder within one that is being filled.
///
/// # Errors
/// If it cannot be made.
pub fn create_folder(path: &Path) -> Result<(), PublishError> {
    fs::create_dir_all(path).map_err(PublishError::io("create", path))
}

/// Copies `config.json`, with the type that the weights now have.
fn write_config(source: &Path, folder: &Path, dtype: &str) -> Result<(), PublishError> {
    let path = source.join("config.json");
    let text = fs::read_to_string(&path).map_err(PublishError::io("read", &path))?;
    let malformed = |reason: String| PublishError::Malformed { path: path.clone(), reason };
    let mut config: Value = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let Some(root) = config.as_object_mut() else {
        return Err(malformed("expected a JSON object".to_owned()));
    };
    set_dtype(root, dtype);
    for part in ["text_config", "vision_config"] {
        if let Some(part) = root.get_mut(part).and_then(Value::as_object_mut) {
            set_dtype(part, dtype);
        }
    }
    let text = serde_json::to_string_pretty(&config).map_err(|e| malformed(e.to_string()))?;
    write_synced(&folder.join("config.json"), text.as_bytes())
}

/// Both spellings occur; a config that names no type stays so.
fn set_dtype(config: &mut serde_json::Map<String, Value>, dtype: &str) {
    for key in ["dtype", "torch_dtype"] {
        if config.contains_key(key) {
            config.insert(key.to_owned(), json!(dtype));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
    use safetensors::{Dtype, SafeTensors};

    fn source() -> tempfile::TempDir {
        let source = tempfile::tempdir().expect("temporary folder");
        let config =
            r#"{"model_type":"qwen2_5_vl","torch_dtype":"float32","text_config":{"dtype":"float32"}}"#;
        fs::write(source.path().join("config.json"), config).expect("writable");
        fs::write(source.path().join("tokenizer.json"), "{}").expect("writable");
        fs::write(source.path().join("model.safetensors"), "not to be copied").expect("writable");
        source
    }

    fn weights(bytes: &[u8]) -> BTreeMap<String, TensorView<'_>> {
        let view = || TensorView::new(Dtype::BF16, vec![2, 2], bytes).expect("2 x 2 bf16");
        BTreeMap::from([("b".to_owned(), view()), ("a".to_owned(), view())])
    }

    #[test]
    fn an_export_holds_the_companions_the_new_type_and_the_weights() {
        let (source, to) = (source(), tempfile::tempdir().expect("temporary folder"));
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        let files =
            export(source.path(), to.path(), weights(&bytes), "bfloat16", SHARD_BYTES).expect("written");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
        let config = fs::read_to_string(to.path().join("config.json")).expect("readable");
        assert!(!config.contains("float32"), "{config}");
        let file = fs::read(to.path().join("model.safetensors")).expect("readable");
        let read = SafeTensors::deserialize(&file).expect("whole");
        assert_eq!(read.tensor("a").expect("there").data(), bytes);
    }

    #[test]
    fn shards_are_cut_by_size_and_indexed() {
        let (source, to) = (source(), tempfile::tempdir().expect("temporary folder"));
        let bytes = [0; 8];
        let files = export(source.path(), to.path(), weights(&bytes), "bfloat16", 8).expect("written");
        assert!(files.contains_key("model-00002-of-00002.safetensors"), "{files:?}");
        let index = fs::read_to_string(to.path().join("model.safetensors.index.json")).expect("readable");
        let index: Value = serde_json::from_str(&index).expect("JSON");
        assert_eq!(index["weight_map"]["a"], "model-00001-of-00002.safetensors");
        assert_eq!(index["metadata"]["total_size"], 16);
    }

    #[test]
    fn a_source_without_a_configuration_is_named() {
        let empty = tempfile::tempdir().expect("temporary folder");
        let error =
            export(empty.path(), empty.path(), weights(&[0; 8]), "bfloat16", 8).expect_err("no config");
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}
