//! Pictures of videos, as a stage wants them.

use std::path::{Path, PathBuf};

use data::{is_video_name, ready_made};
use vision::{FrameCache, VideoOptions, VideoPictures};

/// Makes pictures of videos, and keeps them where it is told to.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    options: VideoOptions,
    cache: Option<FrameCache>,
}

/// What a sample's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Pictures.
    Pictures(Vec<PathBuf>),
    /// A video, to be made pictures of.
    Video(PathBuf),
}

impl Frames {
    /// Pictures whose longest side is bounded, kept in `cache` where there is one. Each video is decoded by one
    /// thread: several are prepared at a time.
    #[must_use]
    pub fn new(longest_side: Option<usize>, cache: Option<PathBuf>) -> Self {
        Self { options: VideoOptions { longest_side, threads: 1 }, cache: cache.map(FrameCache::new) }
    }

    /// As a stage's `data` says.
    #[must_use]
    pub fn of(data: &settings::Data) -> Self {
        Self::new(data.longest_side.map(|side| side as usize), data.frame_cache.clone())
    }

    /// A video's pictures; what is wrong with it though they could be made is logged.
    ///
    /// # Errors
    /// If it is no video or nothing of it can be decoded; the message names the file.
    pub fn read(&self, path: &Path) -> Result<VideoPictures, vision::Error> {
        let made = match &self.cache {
            Some(cache) => cache.pictures(path, &self.options)?,
            None => vision::video_pictures(path, &self.options)?,
        };
        for note in &made.about.notes {
            tracing::warn!("{}: {note}", path.display());
        }
        Ok(made)
    }
}

/// What a sample's files are: a video that is not there is shown by the ready-made pictures beside it.
#[must_use]
pub fn shown(files: &[PathBuf]) -> Shown {
    match files {
        [video] if is_video_name(video) => match ready_made(video).filter(|_| !video.is_file()) {
            Some(pictures) => Shown::Pictures(pictures),
            None => Shown::Video(video.clone()),
        },
        _ => Shown::Pictures(files.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{Shown, shown};

    #[test]
    fn ready_made_pictures_stand_for_a_video_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let [video, mosaic] = ["a.mp4", "a_0.png"].map(|name| folder.path().join(name));
        let one = std::slice::from_ref(&video);
        assert_eq!(shown(one), Shown::Video(video.clone()));
        std::fs::write(&mosaic, b"x").unwrap();
        assert_eq!(shown(one), Shown::Pictures(vec![mosaic.clone()]));
        std::fs::write(&video, b"x").unwrap();
        assert_eq!(shown(one), Shown::Video(video));
        assert_eq!(shown(std::slice::from_ref(&mosaic)), Shown::Pictures(vec![mosaic]));
    }
}
