//! Which files are videos, and which pictures are one's (docs/method.md section 6).

use std::path::{Path, PathBuf};

/// The most pictures that a video is shown as: a mosaic and three single frames.
pub const VIDEO_PICTURES: usize = 4;

/// File names that end so are videos.
const NAMES: [&str; 20] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "flv", "wmv", "asf",
    "ogv", "3gp", "h264", "hevc", "ivf", "y4m",
];

/// Whether a file is a video, by its name.
#[must_use]
pub fn is_video_name(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| NAMES.contains(&extension.as_str()))
}

/// The ready-made pictures `name_0.png` … `name_3.png` beside a video `name.mp4`, whether that is there or not: the
/// mosaic and as many single frames as there are. None where there is no mosaic.
#[must_use]
pub fn ready_made(video: &Path) -> Option<Vec<PathBuf>> {
    let stem = video.file_stem()?;
    let picture = |number: usize| {
        let mut name = stem.to_owned();
        name.push(format!("_{number}.png"));
        video.with_file_name(name)
    };
    let pictures: Vec<PathBuf> = (0..VIDEO_PICTURES).map(picture).take_while(|path| path.is_file()).collect();
    (!pictures.is_empty()).then_some(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_made_pictures_are_found_by_the_videos_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let video = folder.path().join("a.b.mp4");
        assert_eq!(ready_made(&video), None);
        for number in [0, 1, 3] {
            std::fs::write(folder.path().join(format!("a.b_{number}.png")), b"x").expect("written");
        }
        let found = ready_made(&video).expect("a mosaic and a frame");
        assert_eq!(found, ["a.b_0.png", "a.b_1.png"].map(|name| folder.path().join(name)));
    }

    #[test]
    fn a_name_tells_a_video_from_a_picture() {
        assert!(is_video_name(Path::new("v/a.MP4")) && is_video_name(Path::new("a.webm")));
        assert!(!is_video_name(Path::new("a.png")) && !is_video_name(Path::new("mp4")));
    }
}
