#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use super::*;
use crate::names::expected;
use serde_json::json;

/// `config.json` of Qwen/Qwen2.5-VL-{3B,7B,32B,72B}-Instruct, flat as they were published.
fn published(size: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("published_configs.json")).unwrap();
    all[size].clone()
}

fn read(value: &Value) -> Result<Config, ConfigError> {
    Config::from_json(value.as_object().unwrap())
}

#[test]
fn the_published_models_have_their_published_number_of_parameters() {
    // metadata.total_size of the published model.safetensors.index.json, two bytes a parameter.
    for (size, bytes) in
        [("3B", 7_509_245_952), ("7B", 16_584_333_312), ("32B", 66_905_436_672), ("72B", 146_821_554_688_i64)]
    {
        let config = read(&published(size)).unwrap();
        let parameters: i64 = expected(&config).values().map(|shape| shape.iter().product::<i64>()).sum();
        assert_eq!(2 * parameters, bytes, "{size}");
        assert_eq!((config.tied, config.dtype), (size == "3B", Some(Kind::BFloat16)), "{size}");
        assert_eq!((config.text.norm_eps, config.text.max_positions), (1e-6, 128_000), "{size}");
        assert_eq!((config.vision.hidden, config.vision.tokens_per_second), (1280, 2.0), "{size}");
    }
}

#[test]
fn flat_and_nested_layouts_say_the_same() {
    for size in ["3B", "7B", "32B", "72B"] {
        let flat = published(size);
        let mut text = flat.as_object().unwrap().clone();
        let mut vision = text.remove("vision_config").unwrap();
        vision.as_object_mut().unwrap().remove("in_chans");
        vision["in_channels"] = json!(3);
        let rope = json!({"rope_type": "default", "type": "mrope", "mrope_section": [16, 24, 24], "rope_theta": 1e6});
        text.remove("rope_scaling");
        text.remove("rope_theta");
        text.remove("torch_dtype");
        text.insert("rope_parameters".into(), rope);
        text.insert("model_type".into(), json!("qwen2_5_vl_text"));
        let nested = json!({"model_type": "qwen2_5_vl", "text_config": text, "vision_config": vision, "dtype": "bfloat16"});
        assert_eq!(read(&flat).unwrap(), read(&nested).unwrap());
    }
}

#[test]
fn absent_fields_take_the_class_defaults_of_transformers() {
    // transformers 5.23, Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig, Qwen2_5_VLConfig.
    let config = read(&json!({"vision_config": {"out_hidden_size": 8192}})).unwrap();
    let text = TextConfig {
        vocab: 152_064,
        hidden: 8192,
        intermediate: 29_568,
        layers: 80,
        heads: 64,
        kv_heads: 8,
        max_positions: 32_768,
        norm_eps: 1e-5,
        rope_theta: 1e6,
        mrope_section: vec![16, 24, 24],
        pad_token: None,
    };
    let vision = VisionConfig {
        depth: 32,
        hidden: 3584,
        intermediate: 3420,
        heads: 16,
        channels: 3,
        patch: 14,
        temporal_patch: 2,
        merge: 2,
        window: 112,
        full_attention: vec![7, 15, 23, 31],
        out_hidden: 8192,
        tokens_per_second: 4.0,
    };
    let (image_token, video_token) = (151_655, 151_656);
    assert_eq!(config, Config { text, vision, image_token, video_token, tied: false, dtype: None });
}

#[test]
fn null_key_value_heads_are_as_many_as_query_heads() {
    let mut config = published("7B");
    config["num_key_value_heads"] = Value::Null;
    assert_eq!(read(&config).unwrap().text.kv_heads, 28);
}

#[test]
fn both_names_of_the_channels_may_stand_together_if_they_agree() {
    let channels = |vision: Value| {
        let mut config = published("7B");
        let fields = config["vision_config"].as_object_mut().unwrap();
        fields.remove("in_chans");
        fields.extend(vision.as_object().unwrap().clone());
        read(&config).map(|config| config.vision.channels).map_err(|e| e.to_string())
    };
    assert_eq!(channels(json!({})), Ok(3));
    for same in [json!({"in_chans": 1}), json!({"in_channels": 1}), json!({"in_chans": 1, "in_channels": 1})]
    {
        assert_eq!(channels(same), Ok(1));
    }
    let said = channels(json!({"in_chans": 1, "in_channels": 3})).unwrap_err();
    assert!(said.starts_with("config.json: vision_config.in_chans: differs from in_channels, 3"), "{said}");
}

#[test]
fn the_vision_towers_norms_do_not_listen_to_the_file() {
    let mut config = published("7B");
    config["vision_config"]["rms_norm_eps"] = json!(1e-3);
    assert_eq!(read(&config).unwrap(), read(&published("7B")).unwrap());
    assert_eq!(VISION_NORM_EPS, 1e-6);
}

#[test]
fn a_tied_model_may_say_so_at_either_place() {
    let text = json!({"tie_word_embeddings": true});
    let vision = json!({"out_hidden_size": 8192});
    assert!(read(&json!({"text_config": text, "vision_config": vision})).unwrap().tied);
    assert!(
        read(&json!({"tie_word_embeddings": true, "text_config": {}, "vision_config": vision})).unwrap().tied
    );
}

#[test]
fn what_cannot_be_names_its_field() {
    let vision = |field: &str, value: Value| {
        let mut vision = published("3B")["vision_config"].clone();
        vision[field] = value;
        vision
    };
    let cases = [
        ("num_attention_heads", json!(17), "num_attention_heads"),
        ("num_attention_heads", json!(0), "num_attention_heads"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("rope_scaling", json!({"type": "mrope", "mrope_section": [16, 24]}), "rope_scaling.mrope_section"),
        ("rope_scaling", json!({"mrope_section": [16, 24, 1e18]}), "rope_scaling.mrope_section"),
        ("rope_scaling", json!({"mrope_section": [-16, 56, 24]}), "rope_scaling.mrope_section"),
        ("rope_scaling", json!({"type": "yarn", "factor": 4}), "rope_scaling.type"),
        ("rope_scaling", json!("mrope"), "rope_scaling"),
        ("rope_theta", json!(0), "rope_theta"),
        ("rms_norm_eps", json!(-1e-6), "rms_norm_eps"),
        ("hidden_size", json!("2048"), "hidden_size"),
        ("hidden_size", json!(1e18), "hidden_size"),
        ("hidden_size", json!(1_000_000_000_000_000_000_i64), "hidden_size"),
        ("hidden_size", json!(u64::MAX), "hidden_size"),
        ("hidden_size", json!(2048.5), "hidden_size"),
        ("vocab_size", json!(-1), "vocab_size"),
        ("num_hidden_layers", json!(1_000_000_000_000_u64), "num_hidden_layers"),
        ("num_hidden_layers", json!(0), "num_hidden_layers"),
        ("image_token_id", json!(151_936), "image_token_id"),
        ("video_token_id", json!(151_655), "video_token_id"),
        ("pad_token_id", json!(151_936), "pad_token_id"),
        ("use_sliding_window", json!(true), "use_sliding_window"),
        ("torch_dtype", json!("int8"), "torch_dtype"),
        ("model_type", json!("qwen3_vl"), "model_type"),
        ("vision_config", json!([]), "vision_config"),
        ("vision_config", vision("out_hidden_size", json!(2049)), "vision_config.out_hidden_size"),
        ("vision_config", vision("num_heads", json!(7)), "vision_config.num_heads"),
        ("vision_config", vision("depth", json!(0)), "vision_config.depth"),
        ("vision_config", vision("temporal_patch_size", json!(1024)), "vision_config.temporal_patch_size"),
        ("vision_config", vision("patch_size", json!(0)), "vision_config.patch_size"),
        ("vision_config", vision("window_size", json!(27)), "vision_config.window_size"),
        (
            "vision_config",
            vision("fullatt_block_indexes", json!([-1])),
            "vision_config.fullatt_block_indexes",
        ),
    ];
    for (key, value, field) in cases {
        let mut config = published("3B");
        config[key] = value;
        let message = read(&config).unwrap_err().to_string();
        assert!(message.starts_with(&format!("config.json: {field}: ")), "{message}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let said = || Config::read(folder.path()).unwrap_err().to_string();
    assert!(said().contains("config.json: "));
    let deep = "[".repeat(100_000);
    for text in ["", "{", "[]", "3", "{\"hidden_size\": 1e999}", &format!("{{\"a\":{deep}")] {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        assert!(said().contains("config.json: expected a JSON object: "), "{}", said());
    }
}
