//! `model.lora:`: the adapters of `model.trainable: lora`, with PEFT's meanings and defaults.

use std::fmt;
use std::path::PathBuf;

use regex::Regex;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `model.lora:`. A target computes y = W·x + b + (alpha / rank) · B·A·dropout(x); A and B train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// Rows of A, columns of B.
    pub rank: u32,
    /// Over the rank, what an adapter's output is multiplied by.
    pub alpha: f64,
    /// Share of an adapter's input values that a training pass leaves out.
    pub dropout: f64,
    /// The modules that get adapters.
    pub targets: Targets,
    /// A PEFT directory with adapters to start from where weights are loaded; absent: those that `model.path` holds
    /// beside its weights, else fresh ones.
    pub adapter: Option<PathBuf>,
}

impl Default for Lora {
    fn default() -> Self {
        let targets = Targets::Names(["q_proj", "v_proj"].map(str::to_owned).to_vec());
        Self { rank: 8, alpha: 8.0, dropout: 0.0, targets, adapter: None }
    }
}

impl Lora {
    /// What an adapter's output is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / f64::from(self.rank)
    }
}

/// PEFT's `target_modules`: a list of names that a module's name is or ends in after a dot, or one text, which is
/// `all-linear` or a pattern for whole names. Modules have the names that transformers gives them:
/// `model.language_model.layers.0.self_attn.q_proj`, `model.visual.blocks.0.attn.qkv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every linear module but the head.
    AllLinear,
    /// Ends of names.
    Names(Vec<String>),
    /// A regular expression.
    Pattern(String),
}

/// The word for [`Targets::AllLinear`].
const ALL_LINEAR: &str = "all-linear";

/// Tells [`crate::shape`] that one text or a list of texts is meant.
pub(crate) const TEXT_OR_TEXTS: &str = "TextOrTexts";

impl Targets {
    /// What is wrong with them in themselves.
    pub(crate) fn misfit(&self) -> Option<String> {
        match self {
            Self::AllLinear => None,
            Self::Names(names) if names.is_empty() => Some("has no name".to_owned()),
            Self::Names(names) => {
                let strange = names.iter().find(|name| name.is_empty() || name.contains(char::is_whitespace));
                strange.map(|name| format!("has the name \"{name}\""))
            }
            Self::Pattern(pattern) => whole(pattern).err().map(|e| {
                let why = e.to_string();
                format!("is no pattern ({})", why.lines().last().unwrap_or_default())
            }),
        }
    }

    /// The `modules` that are meant, in their order; `linear` says which of them `all-linear` stands for.
    #[must_use]
    pub fn choose<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
        linear: impl Fn(&str) -> bool,
    ) -> Vec<&'a str> {
        match self {
            Self::AllLinear => modules.filter(|module| linear(module)).collect(),
            Self::Names(names) => {
                let ends = |module: &str, name: &String| {
                    module
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                modules.filter(|module| names.iter().any(|name| ends(module, name))).collect()
            }
            Self::Pattern(pattern) => match whole(pattern) {
                Ok(pattern) => modules.filter(|module| pattern.is_match(module)).collect(),
                Err(_) => Vec::new(),
            },
        }
    }
}

/// As Python's `re.fullmatch`.
fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllLinear => f.write_str(ALL_LINEAR),
            Self::Names(names) => write!(f, "[{}]", names.join(", ")),
            Self::Pattern(pattern) => write!(f, "\"{pattern}\""),
        }
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AllLinear => serializer.serialize_str(ALL_LINEAR),
            Self::Pattern(pattern) => serializer.serialize_str(pattern),
            Self::Names(names) => {
                let mut list = serializer.serialize_seq(Some(names.len()))?;
                names.iter().try_for_each(|name| list.serialize_element(name))?;
                list.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TEXT_OR_TEXTS, Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Targets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of module names, all-linear or a pattern")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Targets, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Targets, E> {
        Ok(if text == ALL_LINEAR { Targets::AllLinear } else { Targets::Pattern(text.to_owned()) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Targets, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            names.push(name);
        }
        Ok(if names == [ALL_LINEAR] { Targets::AllLinear } else { Targets::Names(names) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: [&str; 5] = [
        "lm_head",
        "model.language_model.layers.0.mlp.up_proj",
        "model.language_model.layers.0.self_attn.q_proj",
        "model.visual.blocks.0.attn.proj",
        "model.visual.blocks.0.mlp.up_proj",
    ];

    fn chosen(targets: &Targets) -> Vec<&'static str> {
        targets.choose(MODULES.into_iter(), |module| module != "lm_head")
    }

    fn names(names: &[&str]) -> Targets {
        Targets::Names(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_name_is_the_whole_or_follows_a_dot() {
        assert_eq!(chosen(&names(&["up_proj"])), [MODULES[1], MODULES[4]]);
        assert_eq!(chosen(&names(&["proj", "lm_head"])), [MODULES[0], MODULES[3]]);
        assert_eq!(chosen(&names(&["blocks.0.mlp.up_proj"])), [MODULES[4]]);
    }

    #[test]
    fn a_pattern_matches_whole_names_and_all_linear_leaves_the_head() {
        let pattern = |text: &str| Targets::Pattern(text.to_owned());
        assert_eq!(chosen(&pattern(r"model\.language_model\..*_proj")), MODULES[1..3]);
        assert!(chosen(&pattern("q_proj")).is_empty());
        assert_eq!(chosen(&Targets::AllLinear), MODULES[1..]);
        assert!(pattern("(").misfit().is_some_and(|said| said.starts_with("is no pattern")));
    }
}
