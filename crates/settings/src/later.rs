//! Keys of the published contract that this version does not have yet.

use serde_yaml_ng::Value;

/// What a contract key does in this version.
struct Later {
    /// The key, without list positions and without `stages`.
    key: &'static str,
    /// The one value that this version can be said to have.
    only: &'static str,
}

const KEYS: &[Later] = &[Later { key: "rollout.weights", only: "gathered" }];

/// What is to be done with a contract key that no type has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It says what this version does anyway.
    Accept,
    /// It does not; the sentence says what was expected.
    Refuse(String),
}

/// The verdict over `key`; `None` if the contract does not name it.
pub(crate) fn key(key: &str, value: &Value) -> Option<Verdict> {
    let later = KEYS.iter().find(|later| later.key == key)?;
    if value.as_str() == Some(later.only) {
        return Some(Verdict::Accept);
    }
    Some(Verdict::Refuse(format!("{key} is not available in this version; expected {}", later.only)))
}
