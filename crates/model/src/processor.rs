//! From pictures and words to prompts, and from token ids back to text: tokenizer, chat template, processor settings.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tokenizers::Tokenizer;
use vision::{Grid, PatchSettings, VideoSettings};

use crate::chat::{Chat, Part};
use crate::config::Config;
use crate::cutting;
use crate::mrope::Medium;
use crate::prompt::{Prompt, PromptError};

/// Why a checkpoint's tokenizer, template or processor files cannot be used, or a text not with them.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// There is no chat template.
    #[error("{}: expected a chat template in chat_template.jinja, chat_template.json or tokenizer_config.json", .0.display())]
    NoTemplate(PathBuf),
    /// The template does not compile or refused its input.
    #[error("chat template: {0}")]
    Template(String),
    /// The tokenizer refused a text or ids.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Text and pictures do not make a prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
}

/// Ids with a meaning of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// End a completion: `eos_token_id` of `generation_config.json`. No other setting of that file is used.
    pub end: Vec<u32>,
    /// `pad_token_id` of `generation_config.json`.
    pub pad: Option<u32>,
    /// Are never sampled: the image, video and vision placeholders.
    pub banned: Vec<u32>,
}

/// A checkpoint's tokenizer, chat template and picture settings.
#[derive(Debug)]
pub struct Processor {
    tokenizer: Tokenizer,
    chat: Chat,
    config: Config,
    /// How pictures are resized and cut.
    pub patches: PatchSettings,
    /// How videos are.
    pub videos: VideoSettings,
    /// Ids with a meaning of their own.
    pub special: SpecialTokens,
}

/// Closes an assistant's turn.
const TURN_END: &str = "<|im_end|>";

impl Processor {
    /// Reads the files of `folder`, a checkpoint that `config` describes.
    ///
    /// # Errors
    /// If a file is missing or damaged, or they and `config` disagree (placeholders, vocabulary, patches).
    pub fn read(folder: &Path, config: &Config) -> Result<Self, ProcessorError> {
        let path = folder.join("tokenizer.json");
        let bytes =
            std::fs::read(&path).map_err(|source| ProcessorError::Read { path: path.clone(), source })?;
        let tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|e| ProcessorError::File { path: path.clone(), message: e.to_string() })?;
        check_tokenizer(&tokenizer, config).map_err(|message| ProcessorError::File { path, message })?;
        Ok(Self {
            special: special_tokens(folder, &tokenizer, config)?,
            patches: cutting::pictures(folder, config)?,
            videos: cutting::videos(folder, config)?,
            chat: Chat::read(folder)?,
            config: config.clone(),
            tokenizer,
        })
    }

    /// A user's turn: its pictures first, then its text.
    ///
    /// # Errors
    /// As [`Self::prompt_of`].
    pub fn prompt(&self, pictures: &[Grid], text: &str) -> Result<Prompt, ProcessorError> {
        let mut parts = vec![Part::Image; pictures.len()];
        parts.push(Part::Text { text: text.to_owned() });
        let media: Vec<Medium> = pictures.iter().map(|&grid| grid.into()).collect();
        self.prompt_of(&parts, &media, false)
    }

    /// A user's turn of texts, pictures and videos in any order; `media` are the pictures and videos in that order.
    /// `add_vision_id` has the template number them ("Picture 1: ").
    ///
    /// # Errors
    /// If the template refuses it or numbers nothing, the tokens are too many for the model, or places and media do not match.
    pub fn prompt_of(
        &self,
        parts: &[Part],
        media: &[Medium],
        add_vision_id: bool,
    ) -> Result<Prompt, ProcessorError> {
        let text = self.chat.render(parts, add_vision_id)?;
        let mut ids = Vec::new();
        let mut next = media.iter();
        for id in self.encode(&text)? {
            let placeholder = id == self.config.image_token || id == self.config.video_token;
            let times = match placeholder.then(|| next.next()).flatten() {
                Some(medium) => medium.grid.tokens(self.config.vision.merge as usize),
                None => 1,
            };
            ids.extend(std::iter::repeat_n(id, times));
        }
        Ok(Prompt::new(ids, media, &self.config)?)
    }

    /// The ids of a completion: its text's and the closing `<|im_end|>`'s.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn completion(&self, text: &str) -> Result<Vec<u32>, ProcessorError> {
        self.encode(&format!("{text}{TURN_END}"))
    }

    /// As [`Self::completion`], each id with the place of its first byte in `text`.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn completion_places(&self, text: &str) -> Result<Vec<(u32, usize)>, ProcessorError> {
        let text = format!("{text}{TURN_END}");
        let encoded = self.tokenizer.encode(text, false).map_err(refused)?;
        let starts = encoded.get_offsets().iter().map(|(start, _)| *start);
        Ok(encoded.get_ids().iter().copied().zip(starts).collect())
    }

    /// The ids of a text, nothing added.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ProcessorError> {
        Ok(self.tokenizer.encode(text, false).map_err(refused)?.get_ids().to_vec())
    }

    /// The text of ids without special tokens, untrimmed.
    ///
    /// # Errors
    /// If the tokenizer refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ProcessorError> {
        self.tokenizer.decode(ids, true).map_err(refused)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refused(error: tokenizers::Error) -> ProcessorError {
    ProcessorError::Tokenizer(error.to_string())
}

/// A JSON file's value.
pub(crate) fn json(path: &Path) -> Result<Json, ProcessorError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ProcessorError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text)
        .map_err(|e| ProcessorError::File { path: path.to_owned(), message: format!("no JSON: {e}") })
}

/// The placeholders must be the model's, and every token must have a row of the embedding.
fn check_tokenizer(tokenizer: &Tokenizer, config: &Config) -> Result<(), String> {
    for (token, field, id) in [
        ("<|image_pad|>", "image_token_id", config.image_token),
        ("<|video_pad|>", "video_token_id", config.video_token),
    ] {
        match tokenizer.token_to_id(token) {
            Some(found) if found == id => {}
            Some(found) => return Err(format!("{token} is {found}, config.json's {field} is {id}")),
            None => {
                return Err(format!("has no token {token}: this is not a vision-language model's tokenizer"));
            }
        }
    }
    if tokenizer.token_to_id(TURN_END).is_none() {
        return Err(format!("has no token {TURN_END}, which closes a turn"));
    }
    let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
    if i64::from(highest) >= config.text.vocab {
        return Err(format!("has a token {highest}, config.json's vocab_size is {}", config.text.vocab));
    }
    Ok(())
}

fn special_tokens(
    folder: &Path,
    tokenizer: &Tokenizer,
    config: &Config,
) -> Result<SpecialTokens, ProcessorError> {
    let placeholders = ["<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"];
    let banned = placeholders.iter().filter_map(|token| tokenizer.token_to_id(token)).collect();
    let path = folder.join("generation_config.json");
    if !path.exists() {
        let ends = [TURN_END, "<|endoftext|>"];
        let end = ends.iter().filter_map(|token| tokenizer.token_to_id(token)).collect();
        return Ok(SpecialTokens { end, pad: tokenizer.token_to_id("<|endoftext|>"), banned });
    }
    let file = json(&path)?;
    let id = |value: &Json| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| i64::from(id) < config.text.vocab)
    };
    let end: Option<Vec<u32>> = match file.get("eos_token_id") {
        Some(Json::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => id(one).map(|id| vec![id]),
        None => None,
    };
    let end = end.filter(|end| !end.is_empty()).ok_or_else(|| ProcessorError::File {
        path,
        message: format!("eos_token_id: expected token ids below {}", config.text.vocab),
    })?;
    Ok(SpecialTokens { end, pad: file.get("pad_token_id").and_then(id), banned })
}

#[cfg(test)]
#[path = "processor_tests.rs"]
mod tests;
