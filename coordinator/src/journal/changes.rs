//! How a recipe differs from the one that a run began with.

use serde_json::Value;

/// Keys that may change while a run goes on: they say how it is run, not what it computes.
const FREE: [&str; 5] = ["recovery", "faults", "checkpoint.every", "checkpoint.keep", "run.output"];

/// The keys in which the recipes (JSON) differ and must not, each with both values.
pub(super) fn between(before: &str, now: &str) -> Vec<String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut changed = Vec::new();
    compare("", &parse(before), &parse(now), &mut changed);
    changed
}

fn compare(path: &str, before: &Value, now: &Value, changed: &mut Vec<String>) {
    if before == now || FREE.contains(&path) {
        return;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            let new = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(new) {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&below(key), &of(a), &of(b), changed);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&below(&i.to_string()), a, b, changed);
            }
        }
        _ => changed.push(format!("{path} ({before} then, {now} now)")),
    }
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn what_a_run_computes_must_not_change_and_how_it_is_run_may() {
        let before = r#"{"run":{"seed":1,"output":"a"},"recovery":{"lease":5},"stages":[{"steps":3}]}"#;
        let now = r#"{"run":{"seed":1,"output":"b"},"recovery":{"lease":9},"stages":[{"steps":3}]}"#;
        assert!(between(before, now).is_empty());
        let now = r#"{"run":{"seed":2,"output":"a"},"recovery":{"lease":5},"stages":[{"steps":4}]}"#;
        assert_eq!(between(before, now), ["run.seed (1 then, 2 now)", "stages.0.steps (3 then, 4 now)"]);
    }
}
