//! The chat template, found where the reference finds it and run by a template engine.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value as Json;

use crate::processor::ProcessorError;

/// A part of a user's turn, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A place for a picture.
    Image,
    /// A place for a video.
    Video,
    /// Words.
    Text {
        /// The words.
        text: String,
    },
}

impl Part {
    /// As templates expect it: `{"type": "text", "text": …}`.
    fn value(&self) -> Value {
        let (kind, text) = match self {
            Self::Image => ("image", None),
            Self::Video => ("video", None),
            Self::Text { text } => ("text", Some(text)),
        };
        let mut pairs = BTreeMap::from([("type", Value::from(kind))]);
        pairs.extend(text.map(|text| ("text", Value::from(text))));
        Value::from(pairs)
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct Chat {
    engine: Environment<'static>,
}

const NAME: &str = "chat template";

/// What a template may spend: an instruction or 64 bytes cost 1. A thousand times what a published one needs.
const FUEL: u64 = 1_000_000;

impl Chat {
    /// The template of `folder`: `chat_template.jinja`, else `chat_template.json`, else `tokenizer_config.json`.
    pub(crate) fn read(folder: &Path) -> Result<Self, ProcessorError> {
        let jinja = folder.join("chat_template.jinja");
        if jinja.exists() {
            let source = std::fs::read_to_string(&jinja)
                .map_err(|source| ProcessorError::Read { path: jinja.clone(), source })?;
            return Self::compile(source);
        }
        for file in ["chat_template.json", "tokenizer_config.json"] {
            let path = folder.join(file);
            if path.exists()
                && let Some(source) = template_in(&crate::processor::json(&path)?)
            {
                return Self::compile(source);
            }
        }
        Err(ProcessorError::NoTemplate(folder.to_owned()))
    }

    /// The environment that transformers gives templates: blocks swallow their line, loops can break, Python's
    /// methods exist.
    pub(crate) fn compile(source: String) -> Result<Self, ProcessorError> {
        let mut engine = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        engine.set_syntax(syntax.map_err(|e| ProcessorError::Template(e.to_string()))?);
        engine.set_fuel(Some(FUEL));
        engine.set_unknown_method_callback(python_method);
        let refuse = |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        };
        engine.add_function("raise_exception", refuse);
        engine.add_template_owned(NAME, source).map_err(|e| ProcessorError::Template(e.to_string()))?;
        Ok(Self { engine })
    }

    /// The text of one user turn of `parts`, up to where the assistant's answer begins; `add_vision_id` numbers its
    /// pictures and videos ("Picture 1: ").
    ///
    /// # Errors
    /// If the template refuses it, or has no numbers for its pictures where they are wanted.
    pub(crate) fn render(&self, parts: &[Part], add_vision_id: bool) -> Result<String, ProcessorError> {
        let template = self.engine.get_template(NAME).map_err(|e| ProcessorError::Template(e.to_string()))?;
        let content: Vec<Value> = parts.iter().map(Part::value).collect();
        let messages = Value::from(vec![context! { role => "user", content => content }]);
        let write = |add_vision_id: bool| {
            template
                .render(
                    context! { messages => messages.clone(), add_generation_prompt => true, add_vision_id },
                )
                .map_err(|e| ProcessorError::Template(e.to_string()))
        };
        let text = write(add_vision_id)?;
        let seen = parts.iter().any(|part| !matches!(part, Part::Text { .. }));
        if add_vision_id && seen && text == write(false)? {
            return Err(ProcessorError::Template("it has no numbers for pictures (add_vision_id)".into()));
        }
        Ok(text)
    }
}

/// A method of Python's. Those whose result can be far longer than what they are given are the engine's own filters,
/// which pay before they work; `format` has no such filter and no use in a chat template.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().is_some();
    match (method, args) {
        ("replace", _) if text => {
            state.apply_filter("replace", &[std::slice::from_ref(value), args].concat())
        }
        ("join", [parts]) if text => state.apply_filter("join", &[parts.clone(), value.clone()]),
        ("format", _) if text => {
            Err(Error::new(ErrorKind::UnknownMethod, "format is not among the methods of a text"))
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

/// `chat_template`: a string, or a list of named ones of which `default` is meant.
fn template_in(file: &Json) -> Option<String> {
    match file.get("chat_template")? {
        Json::String(source) => Some(source.clone()),
        Json::Array(named) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Json::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str().map(str::to_owned)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_sees_pictures_and_words_in_order() {
        let source = "{% for m in messages %}{{ m['role'].upper() }}:{% for c in m['content'] %}\
            {% if c['type'] == 'image' %}<img>{% elif 'text' in c %}{{ c['text'].strip() }}{% endif %}{% endfor %}{% endfor %}\
            {% if add_generation_prompt %}|{% endif %}";
        let chat = Chat::compile(source.to_owned()).expect("compiles");
        let parts = [Part::Image, Part::Text { text: " a < b ".to_owned() }, Part::Image];
        assert_eq!(chat.render(&parts, false).expect("renders"), "USER:<img>a < b<img>|");
    }

    #[test]
    fn pictures_are_numbered_where_the_template_can() {
        let source = "{% for c in messages[0]['content'] %}{% if c['type'] == 'image' %}{% if add_vision_id %}\
            Picture {{ loop.index }}: {% endif %}<img>{% else %}{{ c['text'] }}{% endif %}{% endfor %}";
        let chat = Chat::compile(source.to_owned()).expect("compiles");
        let parts = [Part::Image, Part::Text { text: "a".to_owned() }];
        assert_eq!(chat.render(&parts, true).expect("renders"), "Picture 1: <img>a");
        assert_eq!(chat.render(&parts, false).expect("renders"), "<img>a");
        assert_eq!(chat.render(&parts[1..], true).expect("nothing to number"), "a");
        let plain = Chat::compile("<img>".to_owned()).expect("compiles");
        let error = plain.render(&parts, true).expect_err("no numbers").to_string();
        assert!(error.contains("add_vision_id"), "{error}");
    }

    #[test]
    fn a_template_that_refuses_says_why() {
        let chat = Chat::compile("{{ raise_exception('no pictures here') }}".to_owned()).expect("compiles");
        let error = chat.render(&[], false).expect_err("refused").to_string();
        assert!(error.contains("no pictures here"), "{error}");
    }

    #[test]
    fn a_template_without_end_or_measure_is_refused() {
        let long = "{% set n = 'x' * 1000000 %}";
        for source in [
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
            "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
            "{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
            "{{ ([0] * 1000000000000)|length }}",
            "{{ 'x' * 1000000000000 }}",
            "{{ '%1000000000000d' % 7 }}",
            "{{ '{:>1000000000000}'.format(7) }}",
            "{{ n.replace('x', n) }}",
            "{{ n.join(n) }}",
        ] {
            let source = format!("{long}{source}");
            let chat = Chat::compile(source.clone()).expect("compiles");
            let said = chat.render(&[], false).expect_err(&source).to_string();
            assert!(said.starts_with("chat template: ") && said.len() < 500, "{source}: {said}");
        }
    }

    #[test]
    fn a_template_nested_too_deeply_is_refused() {
        for source in ["{{ ".to_owned() + &"[".repeat(100_000), "{% if a %}".repeat(100_000)] {
            assert!(Chat::compile(source).is_err());
        }
    }

    #[test]
    fn a_long_prompt_is_no_attack() {
        let source =
            "{% for c in messages[0]['content'] %}{{ c['text'].replace('<image>', '').strip() }}{% endfor %}";
        let chat = Chat::compile(source.to_owned()).expect("compiles");
        let text = "word ".repeat(1_000_000);
        assert_eq!(chat.render(&[Part::Text { text: text.clone() }], false).expect("renders"), text.trim());
    }
}
