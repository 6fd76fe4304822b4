//! `data:`: sets, pixels, prompts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `data:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Training sets.
    pub train: Vec<DataSource>,
    /// Held out; chooses checkpoints.
    pub validation: Vec<DataSource>,
    /// Held out; touched at the end only.
    pub test: Vec<DataSource>,
    /// Lower bound on a resized picture's area, pixels; the processor's own when absent.
    pub min_pixels: Option<u32>,
    /// Upper bound on a resized picture's area, pixels; the processor's own when absent.
    pub max_pixels: Option<u32>,
    /// How the model is shown a video.
    #[serde(skip_serializing_if = "VideoInput::is_pictures")]
    pub video: VideoInput,
    /// Frames a second of a video that is shown itself; the processor's own, or 2, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// The most frames of a video that is shown itself; the processor's own, or 768, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frames: Option<u32>,
    /// The longest side of the pictures that are made of a video, pixels; the frames' own size when absent.
    pub longest_side: Option<u32>,
    /// A folder that keeps the pictures made of videos, by the videos' content; none are kept when absent.
    pub frame_cache: Option<PathBuf>,
    /// How a step's samples are drawn.
    pub sampler: Sampler,
    /// Passes over the data, instead of the stage's `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Side of a random square crop at native scale in training, pixels; none when absent.
    pub crop: Option<u32>,
    /// Random horizontal and vertical flips in training.
    pub flip: bool,
    /// A random order of the colour channels in training, which changes hues and no texture.
    pub permute_channels: bool,
    /// Questions to draw from instead of the manifest's; empty: the manifest's own. `@exploration` stands for
    /// the paraphrases that come with the program.
    pub prompts: Vec<String>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            test: Vec::new(),
            min_pixels: None,
            max_pixels: None,
            video: VideoInput::Pictures,
            fps: None,
            max_frames: None,
            longest_side: None,
            frame_cache: None,
            sampler: Sampler::Mixed,
            epochs: None,
            crop: None,
            flip: false,
            permute_channels: false,
            prompts: Vec::new(),
        }
    }
}

/// One manifest with its media folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// Shown in reports; unique within its list.
    pub name: String,
    /// JSON lines (images) or a JSON array (videos) in the published format, or a MOS text file; several files
    /// joined by `:`.
    pub manifest: PathBuf,
    /// The folder that the manifest's file names are relative to; as many as files, joined by `:`.
    pub media: PathBuf,
    /// Least and greatest MOS of the scale, which becomes [1, 5]; as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// The scale's ends are the least and greatest MOS found in the whole label files, before any split.
    #[serde(default, skip_serializing_if = "is_off")]
    pub found_range: bool,
    /// Shares of the reference pictures for train, validation and test: the list that names the source takes its
    /// own part. All of the source when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<[u32; 3]>,
    /// Which references fall into which part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub split_seed: u64,
    /// What a dry run takes for granted where the label file is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
}

/// A data set that is elsewhere, for dry runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Samples of the list that names the source.
    pub samples: u32,
    /// Of a picture or a video's frames, pixels.
    pub width: u32,
    /// Of a picture or a video's frames, pixels.
    pub height: u32,
    /// They are videos.
    #[serde(default)]
    pub video: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(super) fn is_off(flag: &bool) -> bool {
    !flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl DataSource {
    /// The files or folders that a path joined by `:` stands for.
    #[must_use]
    pub fn split(joined: &Path) -> Vec<PathBuf> {
        joined.to_string_lossy().split(':').map(PathBuf::from).collect()
    }

    /// The manifests, each with its folder.
    #[must_use]
    pub fn pairs(&self) -> Vec<(PathBuf, PathBuf)> {
        Self::split(&self.manifest).into_iter().zip(Self::split(&self.media)).collect()
    }
}

/// How the model is shown a video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoInput {
    /// As pictures: a mosaic of its whole length and single frames.
    #[default]
    Pictures,
    /// Itself: its frames in groups, each token with its time.
    Native,
}

impl VideoInput {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_pictures(&self) -> bool {
        *self == Self::Pictures
    }
}

/// How a step's samples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Samples that are compared with one another come from one data set, picked at random: a device's batch
    /// (`reward.group_samples`) under `reward.scope: device`, else the step.
    Published,
    /// One shuffle over all data sets.
    Mixed,
}
