//! `worker frames`: what the model sees of a video, as files.

use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use vision::{FrameCache, Rgb, VideoOptions, VideoSettings, encode_png, video_frames, video_pictures};

use super::request;
use crate::failure::Failure;

/// Arguments of `worker frames`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A video file.
    #[arg(long)]
    video: PathBuf,
    /// A folder, made where it is missing, for NAME_0.png (the mosaic) and NAME_1.png to NAME_3.png (single frames).
    #[arg(long)]
    output: PathBuf,
    /// The video's own frames instead, NAME_0.png and on, sampled and resized as transformers' Qwen2VLVideoProcessor does.
    #[arg(long, conflicts_with_all = ["longest_side", "cache"])]
    native: bool,
    /// Frames a second that are taken.
    #[arg(long, requires = "native", default_value_t = VideoSettings::default().fps)]
    fps: f64,
    /// The most frames that are taken.
    #[arg(long, requires = "native", default_value_t = VideoSettings::default().max_frames)]
    max_frames: usize,
    /// The longest side of each picture, pixels; the frames' own size when absent.
    #[arg(long)]
    longest_side: Option<NonZeroUsize>,
    /// A folder that keeps the pictures of videos by the videos' content.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Threads that decode; the machine's cores when absent.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// JSON: {"threads", "seconds"} from the file's opening until the pictures lie in memory, of a second time, when
    /// file, code and memory are warm as in a run.
    #[arg(long)]
    timing: Option<PathBuf>,
}

#[derive(Serialize)]
struct Timing {
    threads: usize,
    seconds: f64,
}

/// The line on stdout.
#[derive(Serialize)]
struct Line<'a> {
    video: &'a Path,
    #[serde(flatten)]
    about: &'a Value,
}

/// A video's pictures or frames.
struct Made {
    pictures: Vec<Rgb>,
    about: Value,
    notes: Vec<String>,
}

fn make(args: &Args, threads: usize) -> Result<Made, Failure> {
    if args.native {
        let (fps, max_frames) = (args.fps, args.max_frames);
        if !(fps.is_finite() && fps > 0.0) || max_frames == 0 {
            return Err(Failure::input(format!(
                "--fps {fps} --max-frames {max_frames}: expected both above 0"
            )));
        }
        let settings = VideoSettings { fps, max_frames, ..VideoSettings::default() };
        let taken = video_frames(&args.video, &settings, threads).map_err(Failure::input)?;
        let about = serde_json::to_value(&taken.about).map_err(Failure::other)?;
        return Ok(Made { pictures: taken.frames, about, notes: taken.about.notes });
    }
    let options = VideoOptions { longest_side: args.longest_side.map(NonZeroUsize::get), threads };
    let made = match &args.cache {
        Some(folder) => FrameCache::new(folder.clone()).pictures(&args.video, &options),
        None => video_pictures(&args.video, &options),
    };
    let made = made.map_err(Failure::input)?;
    let about = serde_json::to_value(&made.about).map_err(Failure::other)?;
    Ok(Made { pictures: made.pictures, about, notes: made.about.notes })
}

/// Writes a video's pictures, and on stdout a JSON line with the times of the frames taken (seconds after the first
/// frame) and what is wrong with the video.
///
/// # Errors
/// If it cannot be read or decoded, or the pictures not be written.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(1, NonZeroUsize::get);
    let mut made = make(&args, threads)?;
    if let Some(path) = &args.timing {
        let start = Instant::now();
        made = make(&args, threads)?;
        let seconds = start.elapsed().as_secs_f64();
        request::write_lines(path, &[Timing { threads, seconds }])?;
    }
    fs::create_dir_all(&args.output).map_err(|e| {
        Failure::input(format!("{}: {e}; expected a folder to write to", args.output.display()))
    })?;
    let stem = args.video.file_stem().unwrap_or_default();
    for (number, picture) in made.pictures.iter().enumerate() {
        let mut name = stem.to_owned();
        name.push(format!("_{number}.png"));
        let bytes = encode_png(picture).map_err(Failure::other)?;
        request::in_place(&args.output.join(name), |partial| fs::write(partial, &bytes))?;
    }
    for note in &made.notes {
        tracing::warn!("{}: {note}", args.video.display());
    }
    let line = Line { video: &args.video, about: &made.about };
    let line = serde_json::to_string(&line).map_err(Failure::other)?;
    writeln!(io::stdout(), "{line}").map_err(Failure::other)
}
