//! Videos as Qwen2.5-VL takes them: groups of frames, all of one size.

use std::path::Path;

use serde::Deserialize;

use crate::patches::{RawSettings, group};
use crate::{Error, Grid, PatchSettings, Patches, Rgb, decode};

/// The video processor's settings. Read from a `video_preprocessor_config.json`, from the `video_processor` object of
/// a `processor_config.json`, or where there is neither from a `preprocessor_config.json`; what is not given is that
/// of transformers' `Qwen2VLVideoProcessor`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawVideo")]
pub struct VideoSettings {
    /// How a frame is resized and cut.
    pub frames: PatchSettings,
    /// Tokens of a whole video that the pixels of its frames share; absent: each frame has `max_pixels`.
    pub budget: Option<usize>,
    /// Frames a second that are taken of a video.
    pub fps: f64,
    /// The fewest frames that are taken, where there are so many.
    pub min_frames: usize,
    /// The most frames that are taken.
    pub max_frames: usize,
}

/// The published files' names.
#[derive(Default, Deserialize)]
struct RawVideo {
    #[serde(flatten)]
    frames: RawSettings,
    cap_pixels_per_frame: Option<bool>,
    max_video_tokens: Option<usize>,
    fps: Option<f64>,
    min_frames: Option<usize>,
    max_frames: Option<usize>,
}

impl From<RawVideo> for VideoSettings {
    fn from(raw: RawVideo) -> Self {
        let capped = raw.cap_pixels_per_frame.unwrap_or(false);
        Self {
            frames: raw.frames.within(128 * 28 * 28, 768 * 28 * 28),
            budget: capped.then(|| raw.max_video_tokens.unwrap_or(128_000)),
            // What qwen-vl-utils takes; transformers has no rate of its own.
            fps: raw.fps.unwrap_or(2.0),
            min_frames: raw.min_frames.unwrap_or(4),
            max_frames: raw.max_frames.unwrap_or(768),
        }
    }
}

impl Default for VideoSettings {
    fn default() -> Self {
        RawVideo::default().into()
    }
}

impl VideoSettings {
    /// The frames that are taken of so many that last so long, as transformers' `Qwen2VLVideoProcessor` samples them by
    /// `fps`: whole groups, evenly from the first one on. A video with fewer frames than a group has is taken whole.
    #[must_use]
    pub fn sample(&self, frames: usize, seconds: f64) -> Vec<usize> {
        let group = self.frames.temporal.max(1);
        let whole = |count: usize| count / group * group;
        // A little more than the product: a whole number of frames stays one in floating point.
        let wanted = (seconds * self.fps * (1.0 + 1e-9)) as usize;
        let count = whole(wanted.max(self.min_frames).min(whole(self.max_frames.min(frames))));
        if count == 0 {
            return (0..frames.min(group)).collect();
        }
        let step = frames as f64 / count as f64;
        // f32, as torch counts.
        let at = |place: usize| ((place as f64 * step) as f32 as usize).min(frames - 1);
        (0..count).map(at).collect()
    }

    /// How each of so many frames is resized and cut: under a budget a frame has an even share of 90 % of it, and at
    /// least 5 % more than `min_pixels`.
    #[must_use]
    pub fn of(&self, frames: usize) -> PatchSettings {
        let mut settings = self.frames.clone();
        if let Some(tokens) = self.budget {
            let unit = (settings.patch * settings.merge) as f64;
            let pixels = (tokens as f64 * unit * unit * 0.9) as usize;
            let share = pixels.saturating_mul(settings.temporal) / frames.max(1);
            let least = (settings.min_pixels as f64 * 1.05) as usize;
            settings.max_pixels = settings.max_pixels.min(share).max(least);
        }
        settings
    }
}

/// A video of these frames' files, in order, as transformers' `Qwen2VLVideoProcessor` cuts it; resampled as pictures
/// are. The grid's `t` counts groups of `temporal` frames; the last frame fills an incomplete one.
///
/// # Errors
/// If there is no frame, one cannot be decoded or has another size, or the settings cannot be.
pub fn video<P: AsRef<Path>>(frames: &[P], settings: &VideoSettings) -> Result<Patches, Error> {
    if frames.is_empty() {
        return Err(Error::NoFrames);
    }
    let settings = settings.of(frames.len());
    let mut values = Vec::new();
    let mut grid = Grid { t: 0, h: 0, w: 0 };
    let mut first = None;
    for paths in frames.chunks(settings.temporal.max(1)) {
        let decoded = paths.iter().map(|path| {
            let frame = decode(path.as_ref())?;
            same_size(path.as_ref(), &frame, *first.get_or_insert((frame.width(), frame.height())))?;
            Ok(frame)
        });
        let decoded: Vec<Rgb> = decoded.collect::<Result<_, Error>>()?;
        grid = Grid { t: grid.t + 1, ..settings.grid(decoded[0].width(), decoded[0].height())? };
        group(&decoded, grid, &settings, &mut values)?;
    }
    Ok(Patches { values, grid })
}

fn same_size(path: &Path, frame: &Rgb, (first_width, first_height): (usize, usize)) -> Result<(), Error> {
    let (width, height) = (frame.width(), frame.height());
    if (width, height) == (first_width, first_height) {
        return Ok(());
    }
    Err(Error::FrameSize { path: path.display().to_string(), width, height, first_width, first_height })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{VideoSettings, video};
    use crate::{Error, Grid, PatchSettings, Rgb, encode_png};

    /// One pixel a patch, whose value is its level.
    fn settings() -> VideoSettings {
        let frames = PatchSettings {
            patch: 1,
            temporal: 2,
            merge: 2,
            min_pixels: 1,
            max_pixels: 1000,
            mean: [0.0; 3],
            std: [1.0 / 255.0; 3],
        };
        VideoSettings { frames, budget: None, ..VideoSettings::default() }
    }

    /// Flat frames of these sizes; the first has level 1, the next 2.
    fn frames(folder: &tempfile::TempDir, sizes: &[(usize, usize)]) -> Vec<PathBuf> {
        let write = |(number, &(width, height)): (usize, &(usize, usize))| {
            let path = folder.path().join(format!("{number}.png"));
            let frame = Rgb::new(width, height, vec![number as u8 + 1; width * height * 3]).expect("a frame");
            std::fs::write(&path, encode_png(&frame).expect("encodes")).expect("writable");
            path
        };
        sizes.iter().enumerate().map(write).collect()
    }

    #[test]
    fn two_frames_share_a_patch_and_the_last_of_an_odd_number_is_repeated() {
        let folder = tempfile::tempdir().expect("a folder");
        let cut = video(&frames(&folder, &[(2, 2); 3]), &settings()).expect("fits");
        assert_eq!(cut.grid, Grid { t: 2, h: 2, w: 2 });
        let levels: Vec<i32> = cut.values.iter().map(|v| v.round() as i32).collect();
        assert_eq!(levels, [[1, 2].repeat(3 * 4), [3, 3].repeat(3 * 4)].concat());
    }

    #[test]
    fn a_frame_of_another_size_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = video(&frames(&folder, &[(2, 2), (2, 2), (4, 2)]), &settings()).expect_err("4x2");
        assert!(matches!(error, Error::FrameSize { width: 4, first_width: 2, .. }), "{error}");
        assert!(error.to_string().contains("2.png"), "{error}");
        let none: [&str; 0] = [];
        assert!(matches!(video(&none, &settings()), Err(Error::NoFrames)));
    }

    #[test]
    fn frames_are_sampled_as_transformers_samples_them() {
        // transformers 5.23, Qwen2VLVideoProcessor().sample_frames(VideoMetadata(frames, fps), fps=2).
        let own = VideoSettings::default();
        let of = |frames, fps: f64| own.sample(frames, frames as f64 / fps);
        assert_eq!(of(250, 25.0), (0..20).map(|i| i * 25 / 2).collect::<Vec<_>>());
        assert_eq!(of(132, 24.0), [0, 13, 26, 39, 52, 66, 79, 92, 105, 118]);
        assert_eq!(of(24, 10.0), [0, 6, 12, 18]);
        assert_eq!(of(7, 30.0), [0, 1, 3, 5]);
        assert_eq!(of(3, 1.0), [0, 1]);
        // Where transformers has no frame at all.
        assert_eq!((of(1, 25.0), own.sample(5, 0.0)), (vec![0], vec![0, 1, 2, 3]));
        let few = VideoSettings { max_frames: 5, ..own.clone() };
        assert_eq!(few.sample(1000, 100.0), [0, 250, 500, 750]);
    }

    #[test]
    fn what_a_file_does_not_give_is_the_video_processors_own() {
        let read = |text: &str| serde_json::from_str::<VideoSettings>(text).expect("readable");
        let own = read("{}");
        assert_eq!((own.frames.min_pixels, own.frames.max_pixels, own.budget), (100_352, 602_112, None));
        assert_eq!((own.fps, own.min_frames, own.max_frames), (2.0, 4, 768));
        let rate = read(r#"{"fps": 4, "min_frames": 2, "max_frames": 8}"#);
        assert_eq!((rate.fps, rate.min_frames, rate.max_frames), (4.0, 2, 8));
        // The published files for pictures, which transformers takes for videos where there are no others.
        let shared = read(r#"{"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14}"#);
        assert_eq!((shared.frames.min_pixels, shared.frames.max_pixels), (3_136, 12_845_056));
        let sized =
            read(r#"{"size": {"shortest_edge": 5, "longest_edge": 7}, "cap_pixels_per_frame": true}"#);
        assert_eq!((sized.frames.min_pixels, sized.frames.max_pixels, sized.budget), (5, 7, Some(128_000)));
    }

    #[test]
    fn a_budget_is_shared_evenly_down_to_a_floor() {
        let capped: VideoSettings =
            serde_json::from_str(r#"{"cap_pixels_per_frame": true, "max_video_tokens": 1000}"#)
                .expect("readable");
        // int(1000 · 28 · 28 · 0.9) · 2 // frames, above int(100352 · 1.05).
        let bounds = [2, 3, 10, 100].map(|frames| capped.of(frames).max_pixels);
        assert_eq!(bounds, [602_112, 470_400, 141_120, 105_369]);
    }
}
