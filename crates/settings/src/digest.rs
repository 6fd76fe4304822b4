//! A recipe as text and as a number.

use serde_json::Value;
use serde_yaml_ng::{Mapping, Value as Yaml};
use sha2::{Digest, Sha256};

use crate::run::Run;

impl Run {
    /// SHA-256, 64 hexadecimal digits, of the recipe as canonical JSON: keys sorted, no blanks. Equal settings
    /// have equal digests however their files were written.
    #[must_use]
    pub fn digest(&self) -> String {
        let json = serde_json::to_value(self).map(|value| canonical(&value)).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The recipe as YAML, every setting written out; read as a recipe, it gives the same run.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let text = serde_yaml_ng::to_value(self).and_then(|mut recipe| {
            recipe
                .get_mut("stages")
                .and_then(Yaml::as_sequence_mut)
                .into_iter()
                .flatten()
                .for_each(as_in_files);
            serde_yaml_ng::to_string(&recipe)
        });
        text.unwrap_or_else(|e| format!("# not representable: {e}\n"))
    }
}

/// A stage's `trainable` and `lora` stand below its `model` in files.
fn as_in_files(stage: &mut Yaml) {
    if let Yaml::Mapping(keys) = stage {
        let mut model = Mapping::new();
        for key in ["trainable", "lora"] {
            if let Some((key, value)) = keys.remove_entry(key) {
                model.insert(key, value);
            }
        }
        keys.insert("model".into(), model.into());
    }
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            let entries = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}
