//! Decoded pictures, kept while there is room: a rollout's are needed again by its update.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vision::Rgb;

/// The last pictures read, up to a number of bytes; several threads may read.
pub struct Pictures {
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    used: usize,
    by_path: HashMap<PathBuf, Arc<Rgb>>,
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
        if let Some(known) = self.kept().by_path.get(path) {
            return Ok(Arc::clone(known));
        }
        let picture = Arc::new(vision::decode(path)?);
        self.keep(path, &picture);
        Ok(picture)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, path: &Path, picture: &Arc<Rgb>) {
        let bytes = picture.data().len();
        let mut kept = self.kept();
        // Another thread may have read the same file meanwhile.
        if bytes > self.room || kept.by_path.contains_key(path) {
            return;
        }
        while kept.used + bytes > self.room {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.by_path.remove(&oldest) {
                kept.used -= gone.data().len();
            }
        }
        kept.used += bytes;
        kept.by_path.insert(path.to_path_buf(), Arc::clone(picture));
        kept.order.push_back(path.to_path_buf());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_oldest_pictures_leave_when_the_room_is_full() {
        let picture = Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap());
        let pictures = Pictures::with_room(30);
        for name in ["a", "b", "c"] {
            pictures.keep(Path::new(name), &picture);
        }
        let kept = pictures.kept();
        assert_eq!(kept.used, 24);
        assert!(!kept.by_path.contains_key(Path::new("a")));
        assert!(kept.by_path.contains_key(Path::new("c")));
    }

    #[test]
    fn a_picture_larger_than_the_room_is_not_kept() {
        let pictures = Pictures::with_room(10);
        pictures.keep(Path::new("a"), &Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap()));
        let kept = pictures.kept();
        assert_eq!((kept.used, kept.by_path.len()), (0, 0));
    }

    #[test]
    fn a_picture_that_two_threads_read_takes_its_room_once() {
        let pictures = Pictures::with_room(30);
        for _ in 0..2 {
            pictures.keep(Path::new("a"), &Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap()));
        }
        let kept = pictures.kept();
        assert_eq!((kept.used, kept.order.len()), (12, 1));
    }
}
