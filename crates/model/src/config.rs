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
        let token = |name: &str, default: u32| -> Result<u32, ConfigError> {
            let id = top.token(name)?.unwrap_or(default);
            if i64::from(id) < text.vocab {
                return Ok(id);
            }
            Err(wrong(name, format!("{id} is outside the vocabulary of {} tokens", text.vocab)))
        };
        Ok(Self {
            image_token: token("image_token_id", 151_655)?,
            video_token: token("video_token_id", 151_656)?,
            tied: top.flag("tie_word_embeddings")? || text_fields.flag("tie_word_embeddings")?,
            dtype: dtype(&top, text_fields)?,
            text,
            vision,
        })
    }
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
    Ok(TextConfig {
        vocab: fields.size("vocab_size", 152_064)?,
        hidden,
        intermediate: fields.size("intermediate_size", 29_568)?,
        layers: fields.count("num_hidden_layers", 80)?,
        heads,
        kv_heads,
        max_positions: fields.size("max_position_embeddings", 32_768)?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-5),
        rope_theta: theta,
        mrope_section,
        pad_token: fields.token("pad_token_id")?,
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
    let channels = if fields.has("in_channels") { "in_channels" } else { "in_chans" };
    let config = VisionConfig {
        depth: fields.count("depth", 32)?,
        hidden,
        intermediate: fields.size("intermediate_size", 3420)?,
        heads,
        channels: fields.size(channels, 3)?,
        patch: fields.count("patch_size", 14)?,
        temporal_patch: fields.count("temporal_patch_size", 2)?,
        merge: fields.count("spatial_merge_size", 2)?,
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
    use super::*;
    use serde_json::json;

    fn published_3b() -> Value {
        json!({"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 128000, "rms_norm_eps": 1e-6,
            "model_type": "qwen2_5_vl", "tie_word_embeddings": true, "torch_dtype": "bfloat16", "rope_theta": 1e6,
            "use_sliding_window": false, "sliding_window": 32768,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
                "in_chans": 3, "out_hidden_size": 2048, "tokens_per_second": 2, "fullatt_block_indexes": [7, 15, 23, 31]}})
    }

    fn read(value: &Value) -> Result<Config, ConfigError> {
        Config::from_json(value.as_object().unwrap())
    }

    #[test]
    fn flat_and_nested_layouts_say_the_same() {
        let flat = published_3b();
        let mut text = flat.as_object().unwrap().clone();
        let vision = text.remove("vision_config").unwrap();
        let rope = json!({"rope_type": "default", "type": "mrope", "mrope_section": [16, 24, 24], "rope_theta": 1e6});
        text.remove("rope_scaling");
        text.remove("rope_theta");
        text.insert("rope_parameters".into(), rope);
        text.insert("model_type".into(), json!("qwen2_5_vl_text"));
        let nested = json!({"model_type": "qwen2_5_vl", "text_config": text, "vision_config": vision, "dtype": "bfloat16"});
        assert_eq!(read(&flat).unwrap(), read(&nested).unwrap());
    }

    #[test]
    fn absent_fields_take_the_class_defaults_of_transformers() {
        let config = read(&json!({"vision_config": {"out_hidden_size": 8192}})).unwrap();
        assert_eq!((config.text.layers, config.text.kv_heads, config.text.norm_eps), (80, 8, 1e-5));
        assert_eq!((config.vision.hidden, config.vision.tokens_per_second), (3584, 4.0));
        assert!(!config.tied && config.dtype.is_none());
    }

    #[test]
    fn a_contradiction_names_its_field() {
        let cases = [
            ("num_attention_heads", json!(17), "num_attention_heads"),
            ("num_key_value_heads", json!(3), "num_key_value_heads"),
            (
                "rope_scaling",
                json!({"type": "mrope", "mrope_section": [16, 24]}),
                "rope_scaling.mrope_section",
            ),
            ("rope_scaling", json!({"type": "yarn", "factor": 4}), "rope_scaling.type"),
            ("hidden_size", json!("2048"), "hidden_size"),
            ("vocab_size", json!(-1), "vocab_size"),
            ("num_hidden_layers", json!(1_000_000_000_000_u64), "num_hidden_layers"),
            ("image_token_id", json!(151_936), "image_token_id"),
            (
                "vision_config",
                json!({"hidden_size": 1280, "out_hidden_size": 2049}),
                "vision_config.out_hidden_size",
            ),
        ];
        for (key, value, field) in cases {
            let mut config = published_3b();
            config[key] = value;
            let message = read(&config).unwrap_err().to_string();
            assert!(message.starts_with(&format!("config.json: {field}: ")), "{message}");
        }
    }
}
