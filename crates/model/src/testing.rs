//! A model small enough for unit tests.

use std::collections::BTreeMap;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::names::expected;
use crate::params::Params;

/// Two layers, two blocks, 96 tokens; 90 is the image's, 91 the video's placeholder.
pub(crate) fn tiny_config() -> Config {
    let value = json!({
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}, "max_position_embeddings": 512,
        "image_token_id": 90, "video_token_id": 91,
        "vision_config": {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "in_chans": 3,
            "patch_size": 2, "window_size": 8, "out_hidden_size": 32, "fullatt_block_indexes": [1]},
    });
    Config::from_json(value.as_object().expect("an object")).expect("a good configuration")
}

/// Weights drawn from `seed`, sharp enough that a wrong mask or rotation shows.
pub(crate) fn random_params(config: &Config, seed: i64, kind: Kind) -> Params {
    tch::manual_seed(seed);
    let shapes: BTreeMap<String, Vec<i64>> = expected(config);
    let draw = |(name, shape): (String, Vec<i64>)| {
        let noise = Tensor::randn(&shape, (Kind::Float, Device::Cpu));
        let fan: i64 = shape[1..].iter().product();
        let value = match (shape.len(), name.ends_with("bias")) {
            (1, true) => noise * 0.1,
            (1, false) => noise * 0.1 + 1.0,
            _ => noise * (1.5 / (fan as f64).sqrt()),
        };
        (name, value.to_kind(kind))
    };
    shapes.into_iter().map(draw).collect()
}
