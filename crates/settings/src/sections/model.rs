//! `model:`: where the weights come from and what trains.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Lora;

/// `model:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A directory in Hugging Face layout.
    pub path: PathBuf,
    /// Compute type; master weights are always f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// Which parameters train.
    #[serde(default)]
    pub trainable: Trainable,
    /// The adapters of `trainable: lora`.
    #[serde(default)]
    pub lora: Lora,
}

/// Which parameters a stage trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trainable {
    /// Vision tower and language model.
    #[default]
    All,
    /// The language model; the vision tower (with its merger) is frozen.
    Language,
    /// The vision tower (with its merger); the language model is frozen.
    Vision,
    /// Low-rank adapters beside frozen weights, see [`Lora`].
    Lora,
}

/// Compute type of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bf16 compute over f32 masters.
    #[default]
    Bfloat16,
    /// f32 throughout.
    Float32,
}
