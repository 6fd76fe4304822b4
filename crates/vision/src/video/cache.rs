//! Pictures of videos kept on disk, by the videos' content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::pictures::{PICTURES, VideoAbout, VideoOptions, VideoPictures, video_pictures};
use crate::{Error, decode, encode_png};

/// Changes with every change of the pixels that are made of a video.
const RULE: &str = "mosaic 1";

/// A folder with a folder a video: its pictures, and what was found out about it. Several processes may share it.
#[derive(Clone, Debug)]
pub struct FrameCache {
    folder: PathBuf,
}

impl FrameCache {
    /// Keeps pictures in `folder`, which is made when it is needed. Nothing is ever removed from it.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// As [`video_pictures`]; a video of the same content is decoded once, whatever its name. A folder that cannot be
    /// written to costs time alone.
    ///
    /// # Errors
    /// As [`video_pictures`].
    pub fn pictures(&self, path: &Path, options: &VideoOptions) -> Result<VideoPictures, Error> {
        let digest = digest(path, options)
            .map_err(|e| Error::Read { path: path.display().to_string(), reason: e.to_string() })?;
        let kept = self.folder.join(digest);
        if let Some(pictures) = read(&kept) {
            return Ok(pictures);
        }
        let pictures = video_pictures(path, options)?;
        let _ = self.write(&kept, &pictures);
        Ok(pictures)
    }

    /// Writes beside the place and renames: a reader sees all or nothing.
    fn write(&self, kept: &Path, pictures: &VideoPictures) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let partial = self.folder.join(format!(".{}.{number}", std::process::id()));
        let written = fs::create_dir_all(&partial).and_then(|()| {
            for (number, picture) in pictures.pictures.iter().enumerate() {
                let bytes = encode_png(picture).map_err(io::Error::other)?;
                fs::write(partial.join(format!("{number}.png")), bytes)?;
            }
            fs::write(partial.join("about.json"), serde_json::to_vec(&pictures.about)?)?;
            fs::rename(&partial, kept)
        });
        if written.is_err() {
            // Another process may have been faster.
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }
}

/// What is kept there, if it is whole.
fn read(kept: &Path) -> Option<VideoPictures> {
    let about: VideoAbout = serde_json::from_slice(&fs::read(kept.join("about.json")).ok()?).ok()?;
    let pictures = (0..PICTURES).map(|number| decode(&kept.join(format!("{number}.png"))));
    Some(VideoPictures { pictures: pictures.collect::<Result<_, _>>().ok()?, about })
}

/// Of a video's content and of what is made of it.
fn digest(path: &Path, options: &VideoOptions) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    digest.update(format!("{RULE} {:?}\n", options.longest_side));
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => break,
            count => digest.update(&block[..count]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
