//! A trainer's weights and state on disk.

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::weights::WeightFiles;
use checkpoint::{FileDigest, Files, SHARD_BYTES};
use model::names::canonical;
use settings::Dtype;
use tch::{Kind, Tensor};

use crate::tensors::{Stored, kind_of};
use crate::{Error, Trainer, distortion};

/// The training state's file in a checkpoint.
pub const STATE_FILE: &str = "training_state.safetensors";

impl Trainer {
    /// Writes a Hugging Face directory's files into `folder`: weights as `dtype` under the names that `source`
    /// (the checkpoint that training began with) has them, and `source`'s configuration, tokenizer and processor.
    /// The throw-away head is left out.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn export(&self, source: &Path, folder: &Path, dtype: Dtype) -> Result<Files, Error> {
        let (kind, spelling) = match dtype {
            Dtype::Bfloat16 => (Kind::BFloat16, "bfloat16"),
            Dtype::Float32 => (Kind::Float, "float32"),
        };
        let published = published_names(source);
        let mut weights = BTreeMap::new();
        for (name, tensor) in self.sharding().weights() {
            if !distortion::is_head(&name) {
                let stored = Stored::new(&name, &tensor, kind)?;
                weights.insert(published.get(&name).cloned().unwrap_or(name), stored);
            }
        }
        Ok(checkpoint::export(source, folder, weights, spelling, SHARD_BYTES)?)
    }

    /// Writes what going on needs into `folder` as [`STATE_FILE`]: masters and moments (f32), frozen weights as
    /// they compute, the optimizer's step count. The reference policy is the stage's start, not in here.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_state(&self, folder: &Path) -> Result<FileDigest, Error> {
        let mut stored = BTreeMap::new();
        for (name, tensor) in self.sharding().state() {
            let tensor = Stored::new(&name, &tensor, tensor.kind())?;
            stored.insert(name, tensor);
        }
        Ok(checkpoint::write_tensors(&folder.join(STATE_FILE), stored)?)
    }

    /// Takes back what [`Trainer::save_state`] wrote in the same stage: training goes on bit for bit.
    ///
    /// # Errors
    /// If the file cannot be read or belongs to another model or stage; nothing is changed then.
    pub fn load_state(&mut self, folder: &Path) -> Result<(), Error> {
        let files = WeightFiles::open_file(&folder.join(STATE_FILE))?;
        let mut state = BTreeMap::new();
        for name in files.names() {
            let Some(view) = files.tensor(name) else { continue };
            let wrong = |found: String| Error::StateShape {
                name: name.to_owned(),
                found,
                expected: "F32, BF16 or I64".to_owned(),
            };
            let kind = kind_of(view.dtype).ok_or_else(|| wrong(format!("{:?}", view.dtype)))?;
            let shape: Vec<i64> = view.shape.iter().map(|&n| n as i64).collect();
            let tensor =
                Tensor::f_from_data_size(view.bytes, &shape, kind).map_err(|e| wrong(e.to_string()))?;
            state.insert(name.to_owned(), tensor);
        }
        self.discard();
        self.sharding_mut().load_state(&state)
    }
}

/// Canonical name to the name in the source's files; empty where the source has no weights of its own.
fn published_names(source: &Path) -> BTreeMap<String, String> {
    let Ok(files) = WeightFiles::open(source) else { return BTreeMap::new() };
    files.names().map(|name| (canonical(name), name.to_owned())).collect()
}
