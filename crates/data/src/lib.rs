//! Manifests, labels, the sampling plan, prompts and answers: no pixels, no tensors.
//!
//! `Manifest → SamplingPlan → PromptBatch`: [`read_sources`] gives the samples, a [`Plan`] says which of them
//! a step sees, [`prompt`] what is asked of each, [`answer`] what a supervised stage teaches, and [`place`] on
//! which rank the work is done. Every draw depends on the run's seed, the stage, the step and the sample's id
//! alone, never on the number of ranks.

mod answers;
mod draws;
mod error;
mod manifest;
mod placement;
mod plan;
mod prompts;
mod reference;
mod sample;
mod sources;
mod split;
mod video;

pub use answers::{Description, Kind, Piece, QUALITY_WORDS, answer, aspect_scores, describe};
pub use draws::Draws;
pub use error::Error;
pub use manifest::parse_manifest;
pub use placement::{cost, place};
pub use plan::{Cursor, Plan, Step};
pub use prompts::{
    EXPLORATION, FORMAT_REQUEST, IMAGE_PARAPHRASES, IMAGE_QUESTION, NATIVE_VIDEO_QUESTION, Occasion,
    VIDEO_QUESTION, evaluation_prompt, prompt,
};
pub use reference::reference_of;
pub use sample::{Distortion, Media, Sample};
pub use sources::{ReadText, TextLabel, is_mos_text, read_sources};
pub use split::{Part, split_references};
pub use video::{VIDEO_PICTURES, is_video_name, ready_made};
