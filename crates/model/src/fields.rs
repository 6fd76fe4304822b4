//! Typed reads of a JSON object whose errors say the field's whole path.

use serde_json::{Map, Value};

use crate::config::ConfigError;

/// No published size comes near; a larger one is a mistake or an attack.
const MAX_SIZE: i64 = 1 << 24;
/// Likewise for layers.
const MAX_COUNT: i64 = 1 << 10;
/// Likewise for a patch's extents, which multiply.
const MAX_SIDE: i64 = 1 << 6;

/// An object within `config.json` and where it lies.
pub(crate) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    at: String,
}

impl<'a> Fields<'a> {
    pub(crate) fn top(object: &'a Map<String, Value>) -> Self {
        Self { object: Some(object), at: String::new() }
    }

    pub(crate) fn empty(at: &str) -> Self {
        Self { object: None, at: at.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.object.and_then(|o| o.get(name)).is_some_and(Value::is_null)
    }

    /// The value; null counts as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.and_then(|o| o.get(name)).filter(|v| !v.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, got: &Value) -> ConfigError {
        let got = got.to_string();
        let short: String = got.chars().take(60).collect();
        ConfigError::Field { field: self.path(name), message: format!("expected {expected}, got {short}") }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self { object: Some(object), at: self.path(name) })),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(number)),
                _ => Err(self.wrong(name, "a number of at least 0", value)),
            },
        }
    }

    pub(crate) fn token(&self, name: &str) -> Result<Option<u32>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => Ok(Some(id)),
                None => Err(self.wrong(name, "a token id", value)),
            },
        }
    }

    pub(crate) fn size(&self, name: &str, default: i64) -> Result<i64, ConfigError> {
        self.between(name, default, 1, MAX_SIZE)
    }

    pub(crate) fn count(&self, name: &str, default: i64) -> Result<i64, ConfigError> {
        self.between(name, default, 1, MAX_COUNT)
    }

    pub(crate) fn side(&self, name: &str, default: i64) -> Result<i64, ConfigError> {
        self.between(name, default, 1, MAX_SIDE)
    }

    fn between(&self, name: &str, default: i64, low: i64, high: i64) -> Result<i64, ConfigError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => match value.as_i64() {
                Some(size) if (low..=high).contains(&size) => Ok(size),
                _ => Err(self.wrong(name, &format!("a whole number from {low} to {high}"), value)),
            },
        }
    }

    pub(crate) fn sizes(&self, name: &str, default: &[i64]) -> Result<Vec<i64>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(default.to_vec()) };
        let list = value.as_array().filter(|list| list.len() <= 1024);
        let sizes: Option<Vec<i64>> = list.and_then(|list| {
            list.iter().map(|v| v.as_i64().filter(|size| (0..=MAX_SIZE).contains(size))).collect()
        });
        sizes.ok_or_else(|| self.wrong(name, "a list of whole numbers", value))
    }
}
