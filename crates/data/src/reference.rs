//! Which undistorted original a picture comes from: splits and comparisons go by it.

use std::path::Path;

use crate::video::is_video_name;

/// The original that `file` comes from, in small letters: of a picture by KADID-10k's and TID2013's names
/// (`I01_10_03.png`, `I01_10_03.c2.png` and `i01_01_1.bmp` are of `i01`), of a video itself or its mosaic
/// (`v/a.mp4`, `v/a_0.png`) the video. A name that tells nothing is its own reference.
#[must_use]
pub fn reference_of(file: &str, video: bool) -> String {
    if video { of_video(file) } else { of_picture(file) }
}

fn of_video(file: &str) -> String {
    let stem = Path::new(file).with_extension("").to_string_lossy().to_lowercase();
    match stem.strip_suffix("_0") {
        Some(video) if !is_video_name(Path::new(file)) => video.to_owned(),
        _ => stem,
    }
}

fn of_picture(file: &str) -> String {
    let stem =
        Path::new(file).file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let uncut = match stem.rsplit_once(".c") {
        Some((front, cut)) if number(cut) => front,
        _ => &stem,
    };
    let mut parts = uncut.rsplitn(3, '_');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(level), Some(kind), Some(front)) if number(level) && number(kind) && !front.is_empty() => {
            front.to_owned()
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::reference_of;

    #[test]
    fn references_follow_kadids_names() {
        for (image, expected) in [
            ("I01_10_03.png", "i01"),
            ("a/I01_10_03.c2.png", "i01"),
            ("i01_01_1.bmp", "i01"),
            ("10004473376.jpg", "10004473376"),
            ("my_photo.png", "my_photo"),
            ("_1_2.png", "_1_2"),
            ("scene.v2.png", "scene.v2"),
        ] {
            assert_eq!(reference_of(image, false), expected, "{image}");
        }
    }

    #[test]
    fn a_video_and_its_mosaic_are_one() {
        for (file, expected) in
            [("v/A_1_2.mp4", "v/a_1_2"), ("v/A_1_2_0.png", "v/a_1_2"), ("v/a_0.mp4", "v/a_0")]
        {
            assert_eq!(reference_of(file, true), expected, "{file}");
        }
    }
}
