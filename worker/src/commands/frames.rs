//! `worker frames`: what the model sees of a video, as files.

use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use vision::{FrameCache, VideoAbout, VideoOptions, encode_png, video_pictures};

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
    about: &'a VideoAbout,
}

/// Writes a video's pictures, and on stdout a JSON line with the times of the frames taken (seconds after the first
/// frame) and what is wrong with the video.
///
/// # Errors
/// If it cannot be read or decoded, or the pictures not be written.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok());
    let options = VideoOptions {
        longest_side: args.longest_side.map(NonZeroUsize::get),
        threads: threads.map_or(1, NonZeroUsize::get),
    };
    let make = || {
        let made = match &args.cache {
            Some(folder) => FrameCache::new(folder.clone()).pictures(&args.video, &options),
            None => video_pictures(&args.video, &options),
        };
        made.map_err(Failure::input)
    };
    let mut made = make()?;
    if let Some(path) = &args.timing {
        let start = Instant::now();
        made = make()?;
        let seconds = start.elapsed().as_secs_f64();
        request::write_lines(path, &[Timing { threads: options.threads, seconds }])?;
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
    for note in &made.about.notes {
        tracing::warn!("{}: {note}", args.video.display());
    }
    let line = Line { video: &args.video, about: &made.about };
    let line = serde_json::to_string(&line).map_err(Failure::other)?;
    writeln!(io::stdout(), "{line}").map_err(Failure::other)
}
