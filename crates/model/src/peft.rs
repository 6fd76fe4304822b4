//! Adapters as PEFT keeps them: a folder with `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use checkpoint::weights::WeightFiles;
use serde_json::{Value, json};
use settings::Lora;
use tch::{Device, Kind};

use crate::config::Config;
use crate::lora::Adapters;
use crate::names;
use crate::params::{Params, kind_of, tensor};

/// The settings' file.
pub const CONFIG: &str = "adapter_config.json";
/// The weights' file.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// Begins the names of all weights in a file.
const PREFIX: &str = "base_model.model.";

/// PEFT's name of a weight.
#[must_use]
pub fn name(canonical: &str) -> String {
    format!("{PREFIX}{}", names::in_transformers(canonical))
}

/// The canonical name of a weight that PEFT calls `name`.
fn canonical(name: &str) -> String {
    names::canonical(name.strip_prefix(PREFIX).unwrap_or(name))
}

/// What `adapter_config.json` says of adapters over the checkpoint `base`.
#[must_use]
pub fn config(base: &Path, lora: &Lora) -> Value {
    let Lora { rank, alpha, dropout, targets, .. } = lora;
    // PEFT declares an integer, and reads any number.
    let alpha = if alpha.fract() == 0.0 { json!(*alpha as i64) } else { json!(alpha) };
    json!({
        "auto_mapping": {
            "base_model_class": "Qwen2_5_VLForConditionalGeneration",
            "parent_library": "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
        },
        "base_model_name_or_path": base.display().to_string(),
        "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
        "lora_alpha": alpha, "lora_bias": false, "lora_dropout": dropout, "modules_to_save": null,
        "peft_type": "LORA", "r": rank, "target_modules": targets, "task_type": null,
        "use_dora": false, "use_rslora": false,
    })
}

/// Reads the weights of `adapters`, f32, from a folder of PEFT's.
///
/// # Errors
/// If a file cannot be read, or describes other adapters than `adapters` and `lora` do: what, and what was expected.
pub fn read(folder: &Path, config: &Config, adapters: &Adapters, lora: &Lora) -> Result<Params, String> {
    let path = folder.join(CONFIG);
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|e| wrong(&e))?;
    let said: Value = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
    fits(&said, lora).map_err(|e| wrong(&e))?;
    let path = folder.join(WEIGHTS);
    let files = WeightFiles::open_file(&path).map_err(|e| e.to_string())?;
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut shapes = adapters.shapes(config, lora.rank);
    let mut params = Params::new();
    for published in files.names() {
        let Some(view) = files.tensor(published) else { continue };
        let name = canonical(published);
        let Some(shape) = shapes.remove(&name) else {
            return Err(wrong(&format!(
                "{published} is no adapter of model.lora.targets {}, expected those alone",
                lora.targets
            )));
        };
        let same = view.shape.iter().map(|&side| side as i64).eq(shape.iter().copied());
        if !same || kind_of(view.dtype).is_none() {
            return Err(wrong(&format!(
                "{published} is {:?} {:?}, expected F32, F16 or BF16 {shape:?}",
                view.dtype, view.shape
            )));
        }
        params.insert(name, tensor(&view, Kind::Float, Device::Cpu).map_err(|e| wrong(&e))?);
    }
    match shapes.keys().next() {
        Some(missing) => Err(wrong(&format!(
            "has no {}, expected every adapter of model.lora.targets {}",
            name(missing),
            lora.targets
        ))),
        None => Ok(params),
    }
}

/// Holds a configuration to what is computed here.
fn fits(said: &Value, lora: &Lora) -> Result<(), String> {
    let number = |key: &str| said.get(key).and_then(Value::as_f64);
    for (key, own, expected) in [("r", "rank", f64::from(lora.rank)), ("lora_alpha", "alpha", lora.alpha)] {
        match number(key) {
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(format!(
                    "{key} is {found}, expected model.lora.{own} {expected}: set model.lora.{own}={found}"
                ));
            }
            None => return Err(format!("{key} is missing, expected a number")),
        }
    }
    if said.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(format!(
            "peft_type is {}, expected \"LORA\"",
            said.get("peft_type").unwrap_or(&Value::Null)
        ));
    }
    let plain = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let variants = [
        "bias",
        "fan_in_fan_out",
        "use_dora",
        "use_rslora",
        "use_qalora",
        "lora_bias",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
    ];
    match variants
        .iter()
        .find_map(|key| said.get(*key).filter(|value| !plain(value)).map(|value| (key, value)))
    {
        Some((key, value)) => Err(format!("{key} is {value}, expected plain LoRA without it")),
        None => Ok(()),
    }
}
