//! Where in a file a key stands.

use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A key of a mapping.
    Key(String),
    /// An element of a list.
    Index(usize),
}

/// A place in a document, written `stages.0.optimizer.lr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl Path {
    /// Reads the dotted form; a step of digits alone is an index.
    pub(crate) fn dotted(text: &str) -> Self {
        let step = |part: &str| part.parse().map_or_else(|_| Step::Key(part.into()), Step::Index);
        Self(text.split('.').filter(|part| !part.is_empty()).map(step).collect())
    }

    /// The place one key further in.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.into()))
    }

    /// The place one element further in.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The same setting among the base sections: without a leading `stages.N`.
    pub(crate) fn base(&self) -> Self {
        match self.0.as_slice() {
            [Step::Key(stages), Step::Index(_), rest @ ..] if stages == "stages" => Self(rest.to_vec()),
            steps => Self(steps.to_vec()),
        }
    }

    /// The keys alone, without list positions.
    pub(crate) fn keys(&self) -> String {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match step {
                Step::Key(key) => write!(f, "{dot}{key}")?,
                Step::Index(index) => write!(f, "{dot}{index}")?,
            }
        }
        Ok(())
    }
}

/// The line, from 1, on which `path` stands in the YAML `text`; `None` if it does not stand there.
pub(crate) fn line_of(text: &str, path: &Path) -> Option<usize> {
    let document = serde_yaml_ng::Deserializer::from_str(text);
    let stopped = Seek(&path.0).deserialize(document).err()?;
    if stopped.to_string().contains(HERE) { stopped.location().map(|found| found.line()) } else { None }
}

/// What the search says when it arrives; the parser adds the position.
const HERE: &str = "found the place that was looked for";

/// Walks along a path and fails where it ends, so that the parser tells the position.
struct Seek<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { HERE } else { "more of the path" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Err(de::Error::custom(HERE)) };
        while let Some(matches) = map.next_key_seed(KeyIs { wanted: first, last: rest.is_empty() })? {
            if matches {
                map.next_value_seed(Seek(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Err(de::Error::custom(HERE)) };
        for index in 0.. {
            let more = if *first == Step::Index(index) {
                seq.next_element_seed(Seek(rest))?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

struct KeyIs<'a> {
    wanted: &'a Step,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match self.wanted {
            Step::Key(wanted) if wanted == key && self.last => Err(E::custom(HERE)),
            Step::Key(wanted) => Ok(wanted == key),
            Step::Index(index) if self.last && index.to_string() == key => Err(E::custom(HERE)),
            Step::Index(index) => Ok(index.to_string() == key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\nrun:\n  name: x\nstages:\n  - name: a\n    optimizer:\n      lr: 1\n  - name: b\n    steps: 2\nlist: [1,\n  2]\n";

    #[test]
    fn a_key_is_found_on_its_own_line() {
        for (path, line) in
            [("run", 2), ("run.name", 3), ("stages.0.optimizer.lr", 7), ("stages.1.steps", 9), ("list.1", 11)]
        {
            assert_eq!(line_of(TEXT, &Path::dotted(path)), Some(line), "{path}");
        }
    }

    #[test]
    fn an_absent_key_has_no_line() {
        for path in ["steps", "run.seed", "stages.2", "stages.0.steps", "run.name.x"] {
            assert_eq!(line_of(TEXT, &Path::dotted(path)), None, "{path}");
        }
    }

    #[test]
    fn a_stage_setting_has_its_base_setting() {
        assert_eq!(Path::dotted("stages.3.optimizer.lr").base().to_string(), "optimizer.lr");
        assert_eq!(Path::dotted("optimizer.lr").base().to_string(), "optimizer.lr");
        assert_eq!(Path::dotted("data.train.0.name").keys(), "data.train.name");
    }
}
