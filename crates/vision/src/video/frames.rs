//! A video's own frames, as many a second as the model is shown, at the size at which it looks at them.

use std::path::Path;

use serde::Serialize;

use super::convert::Converter;
use super::native::VideoSettings;
use super::pick::pick;
use super::pictures::notes;
use super::scan::Scan;
use super::source::Source;
use crate::patches::group;
use crate::resize::resized;
use crate::{Error, Grid, Patches, Rgb};

/// Frames of a video, all of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoFrames {
    /// In the order of their display.
    pub frames: Vec<Rgb>,
    /// Where they come from.
    pub about: FramesAbout,
}

/// Which frames were taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FramesAbout {
    /// Of each frame taken, pixels.
    pub width: usize,
    /// Of each frame taken, pixels.
    pub height: usize,
    /// Frames that the file holds.
    pub frames: usize,
    /// Their length, seconds; headers may say another one.
    pub seconds: f64,
    /// The frames taken, counted from 0; rising.
    pub taken: Vec<usize>,
    /// How many of them there are a second.
    pub fps: f64,
    /// What is wrong with the video though frames of it could be taken, a sentence each.
    pub notes: Vec<String>,
}

/// Takes a video's frames as transformers' `Qwen2VLVideoProcessor` samples and resizes them; resampled as pictures are.
///
/// # Errors
/// As [`super::video_pictures`], and if the settings cannot be or the aspect ratio is above 200.
pub fn video_frames(path: &Path, settings: &VideoSettings, threads: usize) -> Result<VideoFrames, Error> {
    let mut source = Source::open(path)?;
    let scan = Scan::of(&mut source, path)?;
    let (turn, declared) = (source.turn, source.declared);
    drop(source);
    let (total, seconds) = (scan.timeline.frames(), scan.timeline.duration());
    let taken = settings.sample(total, seconds);
    let cut = settings.of(taken.len());
    let mut converter = Converter::new();
    let mut size = None;
    let mut frames = Vec::with_capacity(taken.len());
    let picked = pick(path, &scan, &taken, threads, &mut |_, frame| {
        let undecoded = |reason| Error::NoFrame { path: path.display().to_string(), reason };
        let frame = turn.upright(converter.rgb(frame).map_err(undecoded)?)?;
        let (width, height) = match size {
            Some(size) => size,
            None => {
                let grid = cut.grid(frame.width(), frame.height())?;
                *size.insert((grid.w * cut.patch, grid.h * cut.patch))
            }
        };
        frames.push(resized(&frame, width, height)?.into_owned());
        Ok(())
    })?;
    let (width, height) = size.ok_or(Error::NoFrames)?;
    let fps = if seconds > 0.0 { taken.len() as f64 / seconds } else { settings.fps };
    let notes = notes(&scan, declared, &picked, taken.len());
    let about = FramesAbout { width, height, frames: total, seconds, taken, fps, notes };
    Ok(VideoFrames { frames, about })
}

impl VideoFrames {
    /// The patches of groups of frames; the last frame fills an incomplete group.
    ///
    /// # Errors
    /// If the settings are others than those that the frames were taken by.
    pub fn patches(&self, settings: &VideoSettings) -> Result<Patches, Error> {
        let cut = settings.of(self.frames.len());
        let (h, w) = (self.about.height / cut.patch, self.about.width / cut.patch);
        let mut patches = Patches { values: Vec::new(), grid: Grid { t: 0, h, w } };
        for frames in self.frames.chunks(cut.temporal) {
            group(frames, patches.grid, &cut, &mut patches.values)?;
            patches.grid.t += 1;
        }
        Ok(patches)
    }

    /// Seconds between two groups of frames.
    #[must_use]
    pub fn seconds_per_group(&self, settings: &VideoSettings) -> f64 {
        settings.frames.temporal as f64 / self.about.fps
    }
}
