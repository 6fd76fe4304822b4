//! Decoded pictures, and pictures of videos, kept while there is room: a rollout's are needed again by its update.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vision::{PICTURES, Rgb};

use crate::frames::Frames;

/// A file, and the number of a picture that was made of it.
type Key = (PathBuf, usize);

/// The last pictures read, up to a number of bytes; several threads may read.
pub struct Pictures {
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    used: usize,
    by_key: HashMap<Key, Arc<Rgb>>,
    order: VecDeque<Key>,
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
        let key = (path.to_path_buf(), 0);
        if let Some(known) = self.kept().by_key.get(&key) {
            return Ok(Arc::clone(known));
        }
        let picture = Arc::new(vision::decode(path)?);
        self.keep(key, &picture);
        Ok(picture)
    }

    /// The pictures that `frames` makes of the video at `path`.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the file.
    pub fn read_video(&self, path: &Path, frames: &Frames) -> Result<Vec<Arc<Rgb>>, vision::Error> {
        let key = |number| (path.to_path_buf(), number);
        let known: Option<Vec<_>> = {
            let kept = self.kept();
            (0..PICTURES).map(|number| kept.by_key.get(&key(number)).map(Arc::clone)).collect()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let made: Vec<_> = frames.read(path)?.pictures.into_iter().map(Arc::new).collect();
        for (number, picture) in made.iter().enumerate() {
            self.keep(key(number), picture);
        }
        Ok(made)
    }

    /// Lets go of all: what is made of a file has changed.
    pub fn forget(&self) {
        *self.kept() = Kept::default();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: Key, picture: &Arc<Rgb>) {
        let bytes = picture.data().len();
        let mut kept = self.kept();
        // Another thread may have read the same file meanwhile.
        if bytes > self.room || kept.by_key.contains_key(&key) {
            return;
        }
        while kept.used + bytes > self.room {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.by_key.remove(&oldest) {
                kept.used -= gone.data().len();
            }
        }
        kept.used += bytes;
        kept.by_key.insert(key.clone(), Arc::clone(picture));
        kept.order.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn key(name: &str) -> Key {
        (name.into(), 0)
    }

    #[test]
    fn the_oldest_pictures_leave_when_the_room_is_full() {
        let picture = Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap());
        let pictures = Pictures::with_room(30);
        for name in ["a", "b", "c"] {
            pictures.keep(key(name), &picture);
        }
        let kept = pictures.kept();
        assert_eq!(kept.used, 24);
        assert!(!kept.by_key.contains_key(&key("a")));
        assert!(kept.by_key.contains_key(&key("c")));
    }

    #[test]
    fn a_picture_larger_than_the_room_is_not_kept() {
        let pictures = Pictures::with_room(10);
        pictures.keep(key("a"), &Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap()));
        let kept = pictures.kept();
        assert_eq!((kept.used, kept.by_key.len()), (0, 0));
    }

    #[test]
    fn a_picture_that_two_threads_read_takes_its_room_once() {
        let pictures = Pictures::with_room(30);
        for _ in 0..2 {
            pictures.keep(key("a"), &Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap()));
        }
        let kept = pictures.kept();
        assert_eq!((kept.used, kept.order.len()), (12, 1));
    }
}
