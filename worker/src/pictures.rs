//! Decoded pictures, kept while there is room: a rollout's are needed again by its update.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vision::Rgb;

/// The last pictures read, up to a number of bytes.
pub struct Pictures {
    room: usize,
    used: usize,
    by_path: HashMap<PathBuf, Arc<Rgb>>,
    order: VecDeque<PathBuf>,
}

impl Pictures {
    /// Keeps at most `room` bytes of pixels.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self { room, used: 0, by_path: HashMap::new(), order: VecDeque::new() }
    }

    /// The picture at `path`, decoded as Pillow's `convert("RGB")` does.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the file.
    pub fn read(&mut self, path: &Path) -> Result<Arc<Rgb>, vision::Error> {
        if let Some(known) = self.by_path.get(path) {
            return Ok(Arc::clone(known));
        }
        let picture = Arc::new(vision::decode(path)?);
        self.keep(path, &picture);
        Ok(picture)
    }

    fn keep(&mut self, path: &Path, picture: &Arc<Rgb>) {
        let bytes = picture.data().len();
        if bytes > self.room {
            return;
        }
        while self.used + bytes > self.room {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.by_path.remove(&oldest) {
                self.used -= gone.data().len();
            }
        }
        self.used += bytes;
        self.by_path.insert(path.to_path_buf(), Arc::clone(picture));
        self.order.push_back(path.to_path_buf());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_oldest_pictures_leave_when_the_room_is_full() {
        let picture = Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap());
        let mut pictures = Pictures::with_room(30);
        for name in ["a", "b", "c"] {
            pictures.keep(Path::new(name), &picture);
        }
        assert_eq!(pictures.used, 24);
        assert!(!pictures.by_path.contains_key(Path::new("a")));
        assert!(pictures.by_path.contains_key(Path::new("c")));
    }

    #[test]
    fn a_picture_larger_than_the_room_is_not_kept() {
        let mut pictures = Pictures::with_room(10);
        pictures.keep(Path::new("a"), &Arc::new(Rgb::new(2, 2, vec![0; 12]).unwrap()));
        assert_eq!((pictures.used, pictures.by_path.len()), (0, 0));
    }
}
