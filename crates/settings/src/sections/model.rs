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
    /// The published model whose shape a dry run takes where the folder is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Published>,
}

/// A model whose numbers come with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Published {
    /// Qwen2.5-VL-3B-Instruct.
    #[serde(rename = "qwen2.5-vl-3b")]
    Qwen3B,
    /// Qwen2.5-VL-7B-Instruct.
    #[serde(rename = "qwen2.5-vl-7b")]
    Qwen7B,
    /// The one of configs/quickstart/model.
    #[serde(rename = "quickstart")]
    Quickstart,
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
