//! Decoded pictures, and what is made of videos, kept while there is room: a rollout's are needed again by its update.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vision::{Rgb, VideoFrames, VideoSettings};

use crate::frames::Frames;

/// What was made of the last files read, up to a number of bytes; several threads may read.
pub struct Pictures {
    room: usize,
    kept: Mutex<Kept>,
}

/// What was made of a file.
#[derive(Clone)]
enum Made {
    Picture(Arc<Rgb>),
    /// A video's mosaic and single frames.
    Shown(Vec<Arc<Rgb>>),
    /// A video's own frames.
    Frames(Arc<VideoFrames>),
}

impl Made {
    fn bytes(&self) -> usize {
        match self {
            Self::Picture(picture) => picture.data().len(),
            Self::Shown(pictures) => pictures.iter().map(|picture| picture.data().len()).sum(),
            Self::Frames(taken) => taken.frames.iter().map(|frame| frame.data().len()).sum(),
        }
    }
}

#[derive(Default)]
struct Kept {
    used: usize,
    by_path: HashMap<PathBuf, Made>,
    order: VecDeque<PathBuf>,
}

impl Pictures {
    /// Keeps at most `room` bytes of pixels.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self { room, kept: Mutex::default() }
    }

    /// The picture at `path`, decoded as Pillow's `convert("RGB")` does.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the file.
    pub fn read(&self, path: &Path) -> Result<Arc<Rgb>, vision::Error> {
        if let Some(Made::Picture(known)) = self.known(path) {
            return Ok(known);
        }
        let picture = Arc::new(vision::decode(path)?);
        self.keep(path, Made::Picture(Arc::clone(&picture)));
        Ok(picture)
    }

    /// The pictures that `frames` makes of the video at `path`.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the file.
    pub fn read_video(&self, path: &Path, frames: &Frames) -> Result<Vec<Arc<Rgb>>, vision::Error> {
        if let Some(Made::Shown(known)) = self.known(path) {
            return Ok(known);
        }
        let made: Vec<_> = frames.read(path)?.pictures.into_iter().map(Arc::new).collect();
        self.keep(path, Made::Shown(made.clone()));
        Ok(made)
    }

    /// The video's own frames at `path`; what is wrong with it though they could be taken is logged. Each video is
    /// decoded by one thread: several are prepared at a time.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the file.
    pub fn read_frames(
        &self,
        path: &Path,
        settings: &VideoSettings,
    ) -> Result<Arc<VideoFrames>, vision::Error> {
        if let Some(Made::Frames(known)) = self.known(path) {
            return Ok(known);
        }
        let taken = Arc::new(vision::video_frames(path, settings, 1)?);
        for note in &taken.about.notes {
            tracing::warn!("{}: {note}", path.display());
        }
        self.keep(path, Made::Frames(Arc::clone(&taken)));
        Ok(taken)
    }

    /// Lets go of all: what is made of a file has changed.
    pub fn forget(&self) {
        *self.kept() = Kept::default();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, path: &Path) -> Option<Made> {
        self.kept().by_path.get(path).cloned()
    }

    fn keep(&self, path: &Path, made: Made) {
        let bytes = made.bytes();
        let mut kept = self.kept();
        // Another thread may have read the same file meanwhile.
        if bytes > self.room || kept.by_path.contains_key(path) {
            return;
        }
        while kept.used + bytes > self.room {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.by_path.remove(&oldest) {
                kept.used -= gone.bytes();
            }
        }
        kept.used += bytes;
        kept.by_path.insert(path.to_owned(), made);
        kept.order.push_back(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn picture() -> Made {
        Made::Picture(Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap()))
    }

    #[test]
    fn the_oldest_pictures_leave_when_the_room_is_full() {
        let pictures = Pictures::with_room(30);
        for name in ["a", "b", "c"] {
            pictures.keep(Path::new(name), picture());
        }
        let kept = pictures.kept();
        assert_eq!(kept.used, 24);
        assert!(!kept.by_path.contains_key(Path::new("a")));
        assert!(kept.by_path.contains_key(Path::new("c")));
    }

    #[test]
    fn a_picture_larger_than_the_room_is_not_kept() {
        let pictures = Pictures::with_room(10);
        pictures.keep(Path::new("a"), picture());
        let kept = pictures.kept();
        assert_eq!((kept.used, kept.by_path.len()), (0, 0));
    }

    #[test]
    fn a_picture_that_two_threads_read_takes_its_room_once() {
        let pictures = Pictures::with_room(30);
        for _ in 0..2 {
            pictures.keep(Path::new("a"), picture());
        }
        let kept = pictures.kept();
        assert_eq!((kept.used, kept.order.len()), (12, 1));
    }
}
