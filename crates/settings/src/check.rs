//! A document against the shape it must have: unknown keys and values of the wrong kind, all of them.

use serde_yaml_ng::{Mapping, Value};

use crate::later::{self, Verdict};
use crate::position::Path;
use crate::shape::{Field, Shape};

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: Path,
    pub(crate) text: String,
}

/// Checks `value` against `shape` and adds what is wrong. An empty section becomes an empty mapping; a
/// contract key that says what this version does anyway is taken out.
pub(crate) fn check(value: &mut Value, shape: &Shape, path: &Path, found: &mut Vec<Finding>) {
    match (shape, value) {
        (Shape::Any, _) | (Shape::Optional(_), Value::Null) => {}
        (Shape::Optional(inner), value) => check(value, inner, path, found),
        (Shape::Struct(fields), value) => check_mapping(value, fields, path, found),
        (Shape::Map(inner), value) => check_entries(value, inner, path, found),
        (Shape::List(inner), Value::Sequence(items)) => {
            for (i, item) in items.iter_mut().enumerate() {
                check(item, inner, &path.index(i), found);
            }
        }
        (Shape::Tuple(len, inner), Value::Sequence(items)) if items.len() == *len => {
            for (i, item) in items.iter_mut().enumerate() {
                check(item, inner, &path.index(i), found);
            }
        }
        (Shape::OneOf(words), Value::String(word)) if words.contains(&word.as_str()) => {}
        (Shape::Whole(max), Value::Number(n)) if n.as_u64().is_some_and(|n| n <= *max) => {}
        (Shape::Number, Value::Number(n)) if n.as_f64().is_some_and(f64::is_finite) => {}
        (Shape::Flag, Value::Bool(_)) | (Shape::Text | Shape::TextOrTexts, Value::String(_)) => {}
        (Shape::TextOrTexts, Value::Sequence(items)) => {
            for (i, item) in items.iter_mut().enumerate() {
                check(item, &Shape::Text, &path.index(i), found);
            }
        }
        (shape, value) => {
            let text = format!("{path}: expected {}, got {}", expected(shape), shown(value));
            found.push(Finding { path: path.clone(), text });
        }
    }
}

fn check_mapping(value: &mut Value, fields: &[Field], path: &Path, found: &mut Vec<Finding>) {
    if value.is_null() {
        *value = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(entries) = value else {
        let text = format!("{}: expected {}, got {}", place(path), known(fields), shown(value));
        return found.push(Finding { path: path.clone(), text });
    };
    entries.retain(|key, value| {
        let Value::String(name) = key else {
            let text =
                format!("{}: the key {} is not text; expected {}", place(path), shown(key), known(fields));
            found.push(Finding { path: path.clone(), text });
            return true;
        };
        let here = path.key(name);
        if let Some(field) = fields.iter().find(|field| field.name == name) {
            check(value, &field.shape, &here, found);
            return true;
        }
        match later::key(&here.base().keys(), value) {
            Some(Verdict::Accept) => false,
            Some(Verdict::Refuse(text)) => {
                found.push(Finding { path: here, text });
                true
            }
            None => {
                let text = format!(
                    "unknown key \"{name}\", did you mean \"{}\"? Known here: {}",
                    nearest(name, fields),
                    known(fields)
                );
                found.push(Finding { path: here, text });
                true
            }
        }
    });
}

fn check_entries(value: &mut Value, inner: &Shape, path: &Path, found: &mut Vec<Finding>) {
    if value.is_null() {
        *value = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(entries) = value else {
        let text = format!("{path}: expected a mapping, got {}", shown(value));
        return found.push(Finding { path: path.clone(), text });
    };
    for (key, value) in entries.iter_mut() {
        match key {
            Value::String(name) => check(value, inner, &path.key(name), found),
            other => {
                let text = format!("{path}: the key {} is not text; expected it in quotes", shown(other));
                found.push(Finding { path: path.clone(), text });
            }
        }
    }
}

/// Names that people know these settings by elsewhere.
const SYNONYMS: &[(&str, &str)] = &[
    ("gpu", "device"),
    ("gpus", "workers"),
    ("processes", "workers"),
    ("host", "address"),
    ("learning_rate", "lr"),
    ("batch_size", "samples_per_step"),
    ("num_generations", "responses"),
    ("num_iterations", "iterations"),
    ("max_completion_length", "max_new_tokens"),
    ("epochs", "steps"),
];

/// The known key that `name` most likely stands for: a synonym, the same key in a section, or the most alike.
fn nearest(name: &str, fields: &[Field]) -> String {
    let meant = SYNONYMS.iter().find(|(other, _)| *other == name).map_or(name, |(_, ours)| ours);
    if let Some(path) = find(meant, fields) {
        return path;
    }
    let mut best = (-1.0, "");
    for field in fields {
        let alike = strsim::jaro_winkler(name, field.name);
        if alike > best.0 {
            best = (alike, field.name);
        }
    }
    best.1.into()
}

fn find(name: &str, fields: &[Field]) -> Option<String> {
    if fields.iter().any(|field| field.name == name) {
        return Some(name.into());
    }
    let inside = |field: &Field| match &field.shape {
        Shape::Struct(inner) => find(name, inner).map(|rest| format!("{}.{rest}", field.name)),
        _ => None,
    };
    fields.iter().find_map(inside)
}

fn place(path: &Path) -> String {
    if path.0.is_empty() { "the file".into() } else { path.to_string() }
}

fn known(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Struct(fields) => format!("a mapping with {}", known(fields)),
        Shape::Map(_) => "a mapping".into(),
        Shape::List(_) => "a list".into(),
        Shape::Tuple(len, _) => format!("a list of {len}"),
        Shape::OneOf(words) => any_of(words),
        Shape::Optional(inner) => format!("{} or nothing", expected(inner)),
        Shape::Whole(max) => format!("a whole number from 0 to {max}"),
        Shape::Number => "a finite number".into(),
        Shape::Flag => "true or false".into(),
        Shape::Text => "text (in quotes, if it looks like something else)".into(),
        Shape::TextOrTexts => "text or a list of texts".into(),
        Shape::Any => "a value".into(),
    }
}

/// A value as an error quotes it, short.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => format!("\"{}\"", text.chars().take(60).collect::<String>()),
        Value::Sequence(items) => format!("a list of {}", items.len()),
        Value::Mapping(_) => "a mapping".into(),
        Value::Tagged(tagged) => format!("a value tagged {}", tagged.tag),
    }
}
