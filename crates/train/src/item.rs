//! What a rank trains on in a step, tokenised.

use model::{Config, Prompt, VisionBatch};
use settings::StageKind;
use tch::Tensor;

use crate::Error;
use crate::distortion::{KINDS, LEVELS};

/// A drawn completion with what the policy loss needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Token ids, with the end token where one was drawn; nothing after it.
    pub ids: Vec<u32>,
    /// Advantage of the completion within its group.
    pub advantage: f64,
    /// log π_old of each token; empty: this step's own forward pass, detached.
    pub old_logprobs: Vec<f32>,
    /// log π of each token as the rollout computed it; empty: `old_logprobs`, where there are any.
    pub rollout_logprobs: Vec<f32>,
    /// log π_ref of each token; empty: the reference policy's own pass gives it.
    pub reference_logprobs: Vec<f32>,
}

/// One training sample. `pixels` is f32 `[patches, channels · time · patch · patch]` of all its pictures in
/// order, on any device.
#[derive(Debug)]
pub enum Item {
    /// A prompt with its group of completions.
    Policy {
        /// The prompt.
        prompt: Prompt,
        /// Its pictures.
        pixels: Tensor,
        /// Its completions.
        completions: Vec<Completion>,
    },
    /// A prompt with the answer to learn.
    Answer {
        /// The prompt.
        prompt: Prompt,
        /// Its pictures.
        pixels: Tensor,
        /// The answer's tokens.
        ids: Vec<u32>,
        /// Weight of each token's cross-entropy.
        weights: Vec<f64>,
    },
    /// Pictures with their distortion, for the vision tower alone.
    Distortion {
        /// The picture.
        picture: VisionBatch,
        /// Its patches.
        pixels: Tensor,
        /// Kind of the distortion, below [`KINDS`].
        kind: u32,
        /// Its severity, below [`LEVELS`].
        level: u32,
        /// Quality in [1, 5].
        quality: f64,
    },
}

impl Item {
    /// Tokens that it adds to a micro-batch: prompt and completions, or merged image tokens.
    #[must_use]
    pub fn tokens(&self, config: &Config) -> usize {
        match self {
            Self::Policy { prompt, completions, .. } => {
                prompt.ids.len() + completions.iter().map(|c| c.ids.len()).sum::<usize>()
            }
            Self::Answer { prompt, ids, .. } => prompt.ids.len() + ids.len(),
            Self::Distortion { picture, .. } => picture.tokens(config.vision.merge),
        }
    }

    /// Its pictures' patches, f32.
    pub fn pixels(&self) -> &Tensor {
        match self {
            Self::Policy { pixels, .. } | Self::Answer { pixels, .. } | Self::Distortion { pixels, .. } => {
                pixels
            }
        }
    }

    /// Whether a completion of it has no recorded log-probabilities of the reference policy.
    pub(crate) fn needs_reference(&self) -> bool {
        match self {
            Self::Policy { completions, .. } => completions.iter().any(|c| c.reference_logprobs.is_empty()),
            _ => false,
        }
    }

    /// Checks item `index` of a step before anything is computed.
    ///
    /// # Errors
    /// If the stage's `kind` does not train on it, or its parts do not fit each other or the model.
    pub fn check(&self, index: usize, kind: StageKind, config: &Config) -> Result<(), Error> {
        let (found, stage, expected) = match (self, kind) {
            (Self::Policy { .. }, StageKind::Prpo)
            | (Self::Answer { .. }, StageKind::Sft)
            | (Self::Distortion { .. }, StageKind::Vision) => ("", "", ""),
            (_, StageKind::Prpo) => (self.name(), "prpo", "prompts with completions"),
            (_, StageKind::Sft) => (self.name(), "sft", "prompts with an answer"),
            (_, StageKind::Vision) => (self.name(), "vision", "pictures with a distortion"),
        };
        if !found.is_empty() {
            return Err(Error::WrongItem { index, found, stage, expected });
        }
        self.misfit(config).map_or(Ok(()), |reason| Err(Error::BadItem { index, reason }))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Policy { .. } => "a prompt with completions",
            Self::Answer { .. } => "a prompt with an answer",
            Self::Distortion { .. } => "a picture with a distortion",
        }
    }

    /// What of it does not fit, if anything.
    fn misfit(&self, config: &Config) -> Option<String> {
        let patches = match self {
            Self::Policy { prompt, completions, .. } => {
                let misfit = completions.iter().find_map(|c| completion_misfit(c, config));
                if completions.is_empty() || misfit.is_some() {
                    return misfit.or(Some("no completions".to_owned()));
                }
                prompt.patches()
            }
            Self::Answer { prompt, ids, weights, .. } => {
                if let Some(misfit) = ids_misfit(ids, config) {
                    return Some(misfit);
                }
                if weights.len() != ids.len() || weights.iter().any(|w| !w.is_finite()) {
                    let (given, tokens) = (weights.len(), ids.len());
                    return Some(format!(
                        "{given} weights for {tokens} answer tokens, expected finite ones, one each"
                    ));
                }
                prompt.patches()
            }
            Self::Distortion { picture, kind, level, quality, .. } => {
                if i64::from(*kind) >= KINDS || i64::from(*level) >= LEVELS || !quality.is_finite() {
                    return Some(format!(
                        "kind {kind}, level {level}, quality {quality}: expected kind below {KINDS}, level below {LEVELS}"
                    ));
                }
                picture.grids.iter().map(|grid| grid.patches()).sum()
            }
        };
        let vision = &config.vision;
        let expected =
            [patches as i64, vision.channels * vision.temporal_patch * vision.patch * vision.patch];
        let found = self.pixels().size();
        (found != expected).then(|| format!("pixels are {found:?}, its grids and the model say {expected:?}"))
    }
}

fn completion_misfit(completion: &Completion, config: &Config) -> Option<String> {
    let Completion { ids, advantage, old_logprobs, rollout_logprobs, reference_logprobs } = completion;
    if !advantage.is_finite() {
        return Some(format!("advantage {advantage}, expected a finite number"));
    }
    for (policy, given) in
        [("old", old_logprobs), ("rollout", rollout_logprobs), ("reference", reference_logprobs)]
    {
        if !given.is_empty() && given.len() != ids.len() {
            return Some(format!("{} {policy} log-probabilities for {} tokens", given.len(), ids.len()));
        }
    }
    ids_misfit(ids, config)
}

fn ids_misfit(ids: &[u32], config: &Config) -> Option<String> {
    if ids.is_empty() {
        return Some("no tokens to train on".to_owned());
    }
    let vocabulary = config.text.vocab;
    let foreign = ids.iter().find(|&&id| i64::from(id) >= vocabulary)?;
    Some(format!("token {foreign} is outside the vocabulary of {vocabulary}"))
}
