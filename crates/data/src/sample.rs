//! One labelled picture or video.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A sample: what is shown, what is asked and what people answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `{dataset}/{path of the first picture without its extension}`, with `#2`, `#3` … where that is taken:
    /// unique in a list of sources, and the same on every run.
    pub id: String,
    /// The name of the source; of a source that joins several manifests, `{name}/{dataset_name}`.
    pub dataset: String,
    /// What the pictures are.
    pub media: Media,
    /// The pictures, or a video itself: each its media folder and a relative path within.
    pub images: Vec<PathBuf>,
    /// The manifest's question; empty where it has none.
    pub question: String,
    /// Mean opinion score; finite, in [1, 5] where the label file is normalised.
    pub mos: f64,
    /// The undistorted original, as label file or file name tells; the same for all pictures of one.
    pub reference: String,
    /// What was done to the picture, where its name tells.
    pub distortion: Option<Distortion>,
}

/// What a sample's pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// Photographs.
    Image,
    /// The pictures made from one video: a mosaic of frames, then single frames.
    Video,
}

impl Media {
    /// How many scores an answer holds (docs/method.md section 1).
    #[must_use]
    pub fn aspects(self) -> usize {
        match self {
            Self::Image => 5,
            Self::Video => 2,
        }
    }
}

/// What was done to a picture, as KADID-10k numbers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distortion {
    /// Type, 1 to 25.
    pub kind: u8,
    /// Level, 1 (hardly visible) to 5.
    pub level: u8,
    /// The photograph that it was done to.
    pub reference: String,
}

impl Distortion {
    /// Reads KADID-10k's file names: `I01_10_03.png` is type 10 at level 3 of photograph I01. A crop's number
    /// may stand before the extension (`I01_10_03.c2.png`).
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        let stem = name.split('.').next()?;
        let mut parts = stem.rsplitn(3, '_');
        let (level, kind, reference) =
            (two_digits(parts.next()?)?, two_digits(parts.next()?)?, parts.next()?);
        let known = (1..=25).contains(&kind) && (1..=5).contains(&level) && !reference.is_empty();
        known.then(|| Self { kind, level, reference: reference.into() })
    }
}

fn two_digits(text: &str) -> Option<u8> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<(u8, u8, String)> {
        Distortion::of(Path::new(name)).map(|d| (d.kind, d.level, d.reference))
    }

    #[test]
    fn kadid_names_tell_photograph_type_and_level() {
        assert_eq!(of("I01_10_03.png"), Some((10, 3, "I01".into())));
        assert_eq!(of("a/I81_25_05.c12.png"), Some((25, 5, "I81".into())));
        assert_eq!(of("my_photo_01_01.png"), Some((1, 1, "my_photo".into())));
    }

    #[test]
    fn other_names_tell_nothing() {
        for name in [
            "I01.png",
            "I01_01_1.bmp",
            "I01_26_01.png",
            "I01_00_01.png",
            "I01_01_06.png",
            "_01_01.png",
            "10004473376.jpg",
            "",
            "I01_+1_01.png",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
