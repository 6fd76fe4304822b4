//! `config.json` of a Qwen2.5-VL checkpoint, in every published layout, checked.
//!
//! The Hub's files are flat (text fields at the top level, `rope_scaling`, `torch_dtype`, `in_chans`); newer ones
//! nest them (`text_config`, `rope_parameters`, `dtype`, `in_channels`). Fields that are absent take the class
//! defaults of transformers 5.23. Fields that change nothing in the forward pass are not read.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tch::Kind;

use crate::fields::Fields;

/// What the forward pass needs to know about a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Placeholder of one merged image token.
    pub image_token: u32,
    /// Placeholder of one merged video token.
    pub video_token: u32,
    /// The head is the embedding.
    pub tied: bool,
    /// Type that the weights were published in, where the file says so.
    pub dtype: Option<Kind>,
}

/// Shapes and constants of the language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding.
    pub vocab: i64,
    /// Width.
    pub hidden: i64,
    /// Width inside the MLP.
    pub intermediate: i64,
    /// Decoder layers.
    pub layers: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub kv_heads: i64,
    /// Longest sequence, tokens.
    pub max_positions: i64,
    /// ε of the RMS norms.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Frequencies that turn with time, height, width (then time again, …); they sum to half a head.
    pub mrope_section: Vec<i64>,
    /// Row of the embedding that takes no gradient from the input side.
    pub pad_token: Option<u32>,
}

/// Shapes and constants of the vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: i64,
    /// Width.
    pub hidden: i64,
    /// Width inside the MLP.
    pub intermediate: i64,
    /// Attention heads.
    pub heads: i64,
    /// Colour channels.
    pub channels: i64,
    /// Side of a patch, pixels.
    pub patch: i64,
    /// Frames in a patch.
    pub temporal_patch: i64,
    /// Side of the square of patches that become one token.
    pub merge: i64,
    /// Side of an attention window, pixels.
    pub window: i64,
    /// Blocks that attend over the whole picture.
    pub full_attention: Vec<i64>,
    /// Width of the merged tokens.
    pub out_hidden: i64,
    /// mRoPE time positions a second of video.
    pub tokens_per_second: f64,
}

/// ε of the vision tower's norms, whatever the file says (transformers 5.23, `Qwen2_5_VLVisionBlock`).
pub const VISION_NORM_EPS: f64 = 1e-6;

/// Base of the vision tower's rotary frequencies.
pub const VISION_ROPE_THETA: f64 = 10_000.0;

/// Why a `config.json` was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a JSON object.
    #[error("{}: expected a JSON object: {message}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A field is wrong, or contradicts another.
    #[error("config.json: {field}: {message}")]
    Field {
        /// Its path within the file.
        field: String,
        /// What was found and what was expected.
        message: String,
    },
}

fn wrong(field: impl Into<String>, message: impl Into<String>) -> ConfigError {
    ConfigError::Field { field: field.into(), message: message.into() }
}

impl Config {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// If it is missing, no JSON object, or a field is wrong or contradicts another.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let object = serde_json::from_str::<Map<String, Value>>(&text)
            .map_err(|e| ConfigError::Json { path, message: e.to_string() })?;
        Self::from_json(&object)
    }

    /// Resolves a parsed `config.json`.
    ///
    /// # Errors
    /// If a field is wrong or contradicts another.
    pub fn from_json(object: &Map<String, Value>) -> Result<Self, ConfigError> {
        let top = Fields::top(object);
        if let Some(kind) = top.text("model_type")?
            && kind != "qwen2_5_vl"
        {
            return Err(wrong("model_type", format!("expected \"qwen2_5_vl\", got \"{kind}\"")));
        }
        let nested = top.object("text_config")?;
        let text_fields = nested.as_ref().unwrap_or(&top);
        let text = text(text_fields)?;
        let vision =
            vision(top.object("vision_config")?.as_ref().unwrap_or(&Fields::empty("vision_config")))?;
        if vision.out_hidden != text.hidden {
            let message = format!(
                "{} differs from the language model's hidden_size {}",
                vision.out_hidden, text.hidden
            );
            return Err(wrong("vision_config.out_hidden_size", message));
        }
        let token = |name: &str, default: u32| {
            in_vocabulary(&top, name, top.token(name)?.unwrap_or(default), text.vocab)
        };
        let image_token = token("image_token_id", 151_655)?;
        let video_token = token("video_token_id", 151_656)?;
        if image_token == video_token {
            return Err(wrong("video_token_id", format!("{video_token} is the image_token_id too")));
        }
        Ok(Self {
            image_token,
            video_token,
            tied: top.flag("tie_word_embeddings")? || text_fields.flag("tie_word_embeddings")?,
            dtype: dtype(&top, text_fields)?,
            text,
            vision,
        })
    }
}

fn in_vocabulary(fields: &Fields<'_>, name: &str, id: u32, vocab: i64) -> Result<u32, ConfigError> {
    if i64::from(id) < vocab {
        return Ok(id);
    }
    Err(wrong(fields.path(name), format!("{id} is outside the vocabulary of {vocab} tokens")))
}

fn text(fields: &Fields<'_>) -> Result<TextConfig, ConfigError> {
    let hidden = fields.size("hidden_size", 8192)?;
    let heads = fields.size("num_attention_heads", 64)?;
    // transformers: null means as many as query heads, absent means the class default.
    let kv_heads =
        if fields.is_null("num_key_value_heads") { heads } else { fields.size("num_key_value_heads", 8)? };
    if hidden % heads != 0 || (hidden / heads) % 2 != 0 {
        let message = format!("hidden_size {hidden} / {heads} heads is not a whole even head size");
        return Err(wrong(fields.path("num_attention_heads"), message));
    }
    if heads % kv_heads != 0 {
        let message = format!("{heads} query heads cannot share {kv_heads} key/value heads evenly");
        return Err(wrong(fields.path("num_key_value_heads"), message));
    }
    silu(fields)?;
    if fields.flag("use_sliding_window")? {
        let message = "sliding-window attention is not supported; published Qwen2.5-VL files have false";
        return Err(wrong(fields.path("use_sliding_window"), message));
    }
    let rope = match fields.object("rope_scaling")? {
        Some(rope) => Some(rope),
        None => fields.object("rope_parameters")?,
    };
    let rope = rope.unwrap_or_else(|| Fields::empty("rope_parameters"));
    for name in ["rope_type", "type"] {
        if let Some(kind) = rope.text(name)?
            && !["default", "mrope"].contains(&kind.as_str())
        {
            return Err(wrong(rope.path(name), format!("expected \"default\" or \"mrope\", got \"{kind}\"")));
        }
    }
    let mrope_section = rope.sizes("mrope_section", &[16, 24, 24])?;
    let half = hidden / heads / 2;
    if mrope_section.iter().sum::<i64>() != half {
        let message = format!("{mrope_section:?} does not sum to half a head, {half}");
        return Err(wrong(rope.path("mrope_section"), message));
    }
    let theta = match rope.number("rope_theta")? {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(1_000_000.0),
    };
    if theta <= 0.0 {
        return Err(wrong(fields.path("rope_theta"), format!("expected more than 0, got {theta}")));
    }
    let vocab = fields.size("vocab_size", 152_064)?;
    let pad_token = fields.token("pad_token_id")?;
    Ok(TextConfig {
        vocab,
        hidden,
        intermediate: fields.size("intermediate_size", 29_568)?,
        layers: fields.count("num_hidden_layers", 80)?,
        heads,
        kv_heads,
        max_positions: fields.size("max_position_embeddings", 32_768)?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-5),
        rope_theta: theta,
        mrope_section,
        pad_token: pad_token.map(|id| in_vocabulary(fields, "pad_token_id", id, vocab)).transpose()?,
    })
}

fn vision(fields: &Fields<'_>) -> Result<VisionConfig, ConfigError> {
    let hidden = fields.size("hidden_size", 3584)?;
    let heads = fields.size("num_heads", 16)?;
    if hidden % heads != 0 || (hidden / heads) % 4 != 0 {
        let message = format!("hidden_size {hidden} / {heads} heads is not a head size divisible by 4");
        return Err(wrong(fields.path("num_heads"), message));
    }
    silu(fields)?;
    let channels = fields.size("in_channels", fields.size("in_chans", 3)?)?;
    if fields.size("in_chans", channels)? != channels {
        let message = format!("differs from in_channels, {channels}: they are two names of one number");
        return Err(wrong(fields.path("in_chans"), message));
    }
    let config = VisionConfig {
        depth: fields.count("depth", 32)?,
        hidden,
        intermediate: fields.size("intermediate_size", 3420)?,
        heads,
        channels,
        patch: fields.side("patch_size", 14)?,
        temporal_patch: fields.side("temporal_patch_size", 2)?,
        merge: fields.side("spatial_merge_size", 2)?,
        window: fields.size("window_size", 112)?,
        full_attention: fields.sizes("fullatt_block_indexes", &[7, 15, 23, 31])?,
        out_hidden: fields.size("out_hidden_size", 3584)?,
        tokens_per_second: fields.number("tokens_per_second")?.unwrap_or(4.0),
    };
    if config.window / config.patch / config.merge == 0 {
        let message =
            format!("{} holds no merged patch of {} pixels", config.window, config.patch * config.merge);
        return Err(wrong(fields.path("window_size"), message));
    }
    Ok(config)
}

fn silu(fields: &Fields<'_>) -> Result<(), ConfigError> {
    match fields.text("hidden_act")? {
        Some(act) if act != "silu" => {
            Err(wrong(fields.path("hidden_act"), format!("expected \"silu\", got \"{act}\"")))
        }
        _ => Ok(()),
    }
}

fn dtype(top: &Fields<'_>, text: &Fields<'_>) -> Result<Option<Kind>, ConfigError> {
    for (fields, name) in [(top, "dtype"), (top, "torch_dtype"), (text, "dtype"), (text, "torch_dtype")] {
        let Some(value) = fields.text(name)? else { continue };
        return match value.as_str() {
            "bfloat16" => Ok(Some(Kind::BFloat16)),
            "float16" => Ok(Some(Kind::Half)),
            "float32" => Ok(Some(Kind::Float)),
            other => Err(wrong(
                fields.path(name),
                format!("expected bfloat16, float16 or float32, got \"{other}\""),
            )),
        };
    }
    Ok(None)
}

impl TextConfig {
    /// Width of one head.
    #[must_use]
    pub fn head_dim(&self) -> i64 {
        self.hidden / self.heads
    }
}

impl VisionConfig {
    /// Width of one head.
    #[must_use]
    pub fn head_dim(&self) -> i64 {
        self.hidden / self.heads
    }

    /// Values of one patch: channels · time · height · width.
    #[must_use]
    pub fn patch_values(&self) -> i64 {
        self.channels * self.temporal_patch * self.patch * self.patch
    }

    /// Merged tokens along a window's side.
    #[must_use]
    pub fn window_tokens(&self) -> i64 {
        self.window / self.patch / self.merge
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
