//! A prompt as the model takes it: token ids, where its pictures go, and every token's position.

use vision::Grid;

use crate::config::Config;
use crate::mrope::{Medium, positions};

/// Why a prompt cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// No tokens.
    #[error("the prompt has no tokens")]
    Empty,
    /// Longer than the model's context.
    #[error("the prompt has {tokens} tokens, the model's context (max_position_embeddings) is {context}")]
    TooLong {
        /// Of the prompt.
        tokens: usize,
        /// Of the model.
        context: usize,
    },
    /// A picture's placeholders are fewer than its tokens.
    #[error("picture {number}: {found} placeholder tokens, expected {expected}")]
    TokenCount {
        /// Counted from 1.
        number: usize,
        /// Merged tokens of its grid.
        expected: usize,
        /// Placeholders in the prompt.
        found: usize,
    },
    /// Placeholders beyond the last picture.
    #[error(
        "{run} placeholder tokens for a picture {number} that was not given: the text must not hold <|image_pad|> or <|video_pad|> itself"
    )]
    PlaceholderWithoutMedium {
        /// Counted from 1.
        number: usize,
        /// Placeholders in the prompt.
        run: usize,
    },
    /// Pictures beyond the last placeholder.
    #[error(
        "{media} pictures and videos were given, the prompt has places for {placeholders}: the chat template leaves some out"
    )]
    MediumWithoutPlaceholder {
        /// Pictures and videos given.
        media: usize,
        /// Runs of placeholders.
        placeholders: usize,
    },
    /// A video where the prompt has an image's placeholder, or the other way round.
    #[error("picture {number}: image and video placeholders are confused")]
    WrongPlaceholder {
        /// Counted from 1.
        number: usize,
    },
}

/// A prompt, checked against its pictures and the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids; a picture's placeholders are repeated once a merged token.
    pub ids: Vec<u32>,
    /// Grids of its pictures and videos, in order.
    pub grids: Vec<Grid>,
    /// Indices of the tokens that pictures fill, in the order of their merged tokens.
    pub slots: Vec<usize>,
    /// Time, height and width position of each token.
    pub positions: Vec<[i64; 3]>,
    /// Position at which a completion begins, on all three axes.
    pub next_position: i64,
}

impl Prompt {
    /// A prompt of `ids` whose placeholder runs stand for `media`, in order.
    ///
    /// # Errors
    /// If it is empty, too long for the model, or placeholders and media do not match.
    pub fn new(ids: Vec<u32>, media: &[Medium], config: &Config) -> Result<Self, PromptError> {
        let context = config.text.max_positions as usize;
        if ids.is_empty() {
            return Err(PromptError::Empty);
        }
        if ids.len() >= context {
            return Err(PromptError::TooLong { tokens: ids.len(), context });
        }
        let places = positions(&ids, media, config)?;
        let grids = media.iter().map(|m| m.grid).collect();
        Ok(Self { ids, grids, slots: places.slots, positions: places.axes, next_position: places.next })
    }

    /// Patches of all its pictures.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.grids.iter().map(|g| g.patches()).sum()
    }
}
