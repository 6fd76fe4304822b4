//! Laying settings over one another: mappings are merged key by key, everything else is replaced.

use config::{Config, ConfigError, Map, Source, Value as Setting, ValueKind};
use serde_yaml_ng::Value;

use crate::position::{Path, Step};
use crate::shape::Shape;

/// One layer: settings by place.
#[derive(Clone, Debug)]
struct Layer(Map<String, Setting>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Setting>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The place of one setting.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What holds it.
    pub(crate) within: Path,
    /// The shape of what holds it.
    pub(crate) container: Shape,
    /// Its key or position in there.
    pub(crate) last: Step,
    /// Its own shape.
    pub(crate) shape: Shape,
}

/// Settings, as laid so far.
#[derive(Clone, Debug)]
pub(crate) struct Layers(Config);

impl Layers {
    /// The lowest layer, from a checked document.
    pub(crate) fn new(document: &Value) -> Result<Self, ConfigError> {
        let Setting { kind: ValueKind::Table(base), .. } = setting(document) else {
            return Err(ConfigError::Message("a document of settings is a mapping".into()));
        };
        Self::stack(vec![base])
    }

    fn stack(layers: Vec<Map<String, Setting>>) -> Result<Self, ConfigError> {
        let builder =
            layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(Layer(layer)));
        builder.build().map(Self)
    }

    /// Lays one value over what stands at `path`.
    pub(crate) fn set(self, path: &Path, value: &Value) -> Result<Self, ConfigError> {
        let layer = Layer(Map::from_iter([(expression(path), setting(value))]));
        Config::builder().add_source(self.0).add_source(layer).build().map(Self)
    }

    /// Lays the keys that stand beside `stages` under every stage, those of `keep` excepted; of `model` a stage
    /// takes what `stage` has. Without stages there is one, "prpo".
    pub(crate) fn into_stages(self, stage: &Shape, keep: &[&str]) -> Result<Self, ConfigError> {
        let mut root = self.0.cache.into_table()?;
        let stages = match root.remove("stages").map(|stages| stages.kind) {
            None | Some(ValueKind::Nil) => {
                vec![Map::from_iter([("name".into(), Setting::from("prpo"))]).into()]
            }
            Some(ValueKind::Array(stages)) => stages,
            Some(other) => vec![Setting::new(None, other)],
        };
        let mut base = Map::new();
        for field in stage.fields() {
            if keep.contains(&field.name) {
                let part = root.get(field.name).cloned().map(|section| only(section, &field.shape));
                base.extend(part.map(|part| (field.name.to_string(), part)));
            } else if let Some(section) = root.remove(field.name) {
                base.insert(field.name.into(), section);
            }
        }
        let laid = stages.into_iter().map(|own| {
            let own = own.into_table()?;
            Ok(Self::stack(vec![base.clone(), own])?.0.cache)
        });
        let laid = laid.collect::<Result<Vec<_>, ConfigError>>()?;
        root.insert("stages".into(), laid.into());
        Self::stack(vec![root])
    }

    /// The place that a `--set` key names: steps through lists by position or by the element's `name`. An
    /// unknown key ends the way: what it stands in says that it is unknown. `Err` says which step does not exist.
    pub(crate) fn resolve(&self, key: &str, shape: &Shape) -> Result<Place, String> {
        let mut within = Path::default();
        let mut shape = shape.clone();
        let mut here = Some(&self.0.cache);
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            let (last, inner) = match shape.inner() {
                Shape::List(element) | Shape::Tuple(_, element) => {
                    let index = element_of(here, part)
                        .map_err(|known| format!("{within} has no element \"{part}\"; expected {known}"))?;
                    here = here.and_then(|list| element_at(list, index));
                    (Step::Index(index), Some((**element).clone()))
                }
                Shape::Struct(fields) => {
                    here = here.and_then(|table| entry(table, part));
                    let field = fields.iter().find(|field| field.name == part);
                    (Step::Key(part.into()), field.map(|field| field.shape.clone()))
                }
                _ => return Err(format!("{within} has no keys, so not \"{part}\"")),
            };
            match inner {
                Some(inner) if parts.peek().is_some() => {
                    within.0.push(last);
                    shape = inner;
                }
                inner => {
                    return Ok(Place { within, container: shape, last, shape: inner.unwrap_or(Shape::Any) });
                }
            }
        }
        Err("expected a key".into())
    }

    /// The places at which a required key is missing.
    pub(crate) fn missing(&self, shape: &Shape) -> Vec<Path> {
        let mut found = Vec::new();
        missing(&self.0.cache, shape, &Path::default(), &mut found);
        found
    }

    /// The settings as `T`.
    pub(crate) fn into<'de, T: serde::Deserialize<'de>>(self) -> Result<T, ConfigError> {
        self.0.try_deserialize()
    }
}

/// The part of a section that `shape` has keys for.
fn only(section: Setting, shape: &Shape) -> Setting {
    match section.kind {
        ValueKind::Table(mut table) => {
            table.retain(|key, _| shape.fields().iter().any(|field| field.name == key));
            table.into()
        }
        _ => Map::<String, Setting>::new().into(),
    }
}

fn missing(value: &Setting, shape: &Shape, path: &Path, found: &mut Vec<Path>) {
    match (shape.inner(), &value.kind) {
        (Shape::Struct(fields), ValueKind::Table(table)) => {
            for field in fields {
                match table.get(field.name) {
                    Some(value) => missing(value, &field.shape, &path.key(field.name), found),
                    None if field.required => found.push(path.key(field.name)),
                    None => {}
                }
            }
        }
        (Shape::List(element), ValueKind::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                missing(item, element, &path.index(i), found);
            }
        }
        _ => {}
    }
}

fn entry<'a>(table: &'a Setting, key: &str) -> Option<&'a Setting> {
    match &table.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

fn element_at(list: &Setting, index: usize) -> Option<&Setting> {
    match &list.kind {
        ValueKind::Array(items) => items.get(index),
        _ => None,
    }
}

/// The position of the element that `part` names; `Err` says what there is.
fn element_of(list: Option<&Setting>, part: &str) -> Result<usize, String> {
    let Some(Setting { kind: ValueKind::Array(items), .. }) = list else {
        return Err("a list that the recipe has".into());
    };
    if let Ok(index) = part.parse::<usize>()
        && index < items.len()
    {
        return Ok(index);
    }
    let names: Vec<Option<String>> = items
        .iter()
        .map(|item| entry(item, "name").and_then(|name| name.clone().into_string().ok()))
        .collect();
    let found = names.iter().position(|name| name.as_deref() == Some(part));
    found.ok_or_else(|| {
        let names = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let last = items.len().saturating_sub(1);
        if names.is_empty() { format!("0 to {last}") } else { format!("0 to {last}, or a name of: {names}") }
    })
}

/// The place in the notation of the layering.
fn expression(path: &Path) -> String {
    let mut text = String::new();
    for step in &path.0 {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

fn setting(value: &Value) -> Setting {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Bool(flag) => ValueKind::Boolean(*flag),
        Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), _, _) => ValueKind::U64(n),
            (_, Some(n), _) => ValueKind::I64(n),
            (_, _, n) => ValueKind::Float(n.unwrap_or(f64::NAN)),
        },
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Sequence(items) => ValueKind::Array(items.iter().map(setting).collect()),
        Value::Mapping(entries) => {
            let entry =
                |(key, value): (&Value, &Value)| key.as_str().map(|key| (key.to_string(), setting(value)));
            ValueKind::Table(entries.iter().filter_map(entry).collect())
        }
        Value::Tagged(tagged) => return setting(&tagged.value),
    };
    Setting::new(None, kind)
}
