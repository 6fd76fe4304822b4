//! The chat template, found where the reference finds it and run by a template engine.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
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
        engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let refuse = |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        };
        engine.add_function("raise_exception", refuse);
        engine.add_template_owned(NAME, source).map_err(|e| ProcessorError::Template(e.to_string()))?;
        Ok(Self { engine })
    }

    /// The text of one user turn of `parts`, up to where the assistant's answer begins.
    pub(crate) fn render(&self, parts: &[Part]) -> Result<String, ProcessorError> {
        let template = self.engine.get_template(NAME).map_err(|e| ProcessorError::Template(e.to_string()))?;
        let content: Vec<Value> = parts.iter().map(Part::value).collect();
        let messages = vec![context! { role => "user", content => content }];
        template
            .render(context! { messages => messages, add_generation_prompt => true })
            .map_err(|e| ProcessorError::Template(e.to_string()))
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
        assert_eq!(chat.render(&parts).expect("renders"), "USER:<img>a < b<img>|");
    }

    #[test]
    fn a_template_that_refuses_says_why() {
        let chat = Chat::compile("{{ raise_exception('no pictures here') }}".to_owned()).expect("compiles");
        let error = chat.render(&[]).expect_err("refused").to_string();
        assert!(error.contains("no pictures here"), "{error}");
    }
}
