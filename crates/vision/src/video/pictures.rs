//! What the model sees of a video: a mosaic of its whole length and three single frames (docs/method.md section 6).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::convert::Converter;
use super::mosaic::{MOSAIC_FRAMES, Mosaic, fitted};
use super::pick::{Picked, pick};
use super::scan::Scan;
use super::source::Source;
use crate::{Error, Rgb, resize};

/// Pictures that a video becomes: the mosaic, then single frames.
pub const PICTURES: usize = 4;

const SINGLES: usize = PICTURES - 1;

/// How pictures are made of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoOptions {
    /// The longest side of each picture, pixels; a picture within it stays as it is. None: the frames' own size, and
    /// the size at which the model looks is left to its processor.
    pub longest_side: Option<usize>,
    /// Threads that decode.
    pub threads: usize,
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self { longest_side: None, threads: 1 }
    }
}

/// A video as pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoPictures {
    /// The mosaic, then three single frames.
    pub pictures: Vec<Rgb>,
    /// Where they come from.
    pub about: VideoAbout,
}

/// What was found out about a video, and which frames were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoAbout {
    /// Of a frame as it is shown, pixels.
    pub width: usize,
    /// Of a frame as it is shown, pixels.
    pub height: usize,
    /// Frames that the file holds.
    pub frames: usize,
    /// Their length, seconds; headers may say another one.
    pub seconds: f64,
    /// The codec's name.
    pub codec: String,
    /// How frames are turned before they are shown, degrees clockwise.
    pub rotation: u16,
    /// When the mosaic's frames appear, seconds after the first frame, row by row.
    pub mosaic: Vec<f64>,
    /// When the single frames appear.
    pub singles: Vec<f64>,
    /// What is wrong with the video though its pictures could be made, a sentence each.
    pub notes: Vec<String>,
}

/// Makes a video's pictures: a mosaic of the 16 frames on screen in the middles of 16 equal parts of its true length,
/// and the three of three equal parts. Frames stand as the container says that they are shown; their pixels are
/// square, whatever it says.
///
/// # Errors
/// Each names the file: unreadable, empty, no known container, no picture stream (audio only), a codec that is not
/// built in, frames above [`super::MAX_FRAME_PIXELS`], no frame that can be decoded. Of a damaged or truncated file
/// the frames that there are count, and `notes` say so.
pub fn video_pictures(path: &Path, options: &VideoOptions) -> Result<VideoPictures, Error> {
    let mut source = Source::open(path)?;
    let scan = Scan::of(&mut source, path)?;
    let (turn, codec, declared) = (source.turn, source.codec, source.declared);
    drop(source);
    let (spread, alone) = (scan.timeline.spread(MOSAIC_FRAMES), scan.timeline.spread(SINGLES));
    let mut wanted = [&spread[..], &alone[..]].concat();
    wanted.sort_unstable();
    wanted.dedup();
    let mut converter = Converter::new();
    let mut mosaic: Option<(Mosaic, usize, usize)> = None;
    let mut singles: Vec<Option<Rgb>> = vec![None; SINGLES];
    let picked = pick(path, &scan, &wanted, options.threads, &mut |number, frame| {
        let undecoded = |reason| Error::NoFrame { path: path.display().to_string(), reason };
        let frame = turn.upright(converter.rgb(frame).map_err(undecoded)?)?;
        let size = (frame.width(), frame.height());
        let (mosaic, ..) =
            mosaic.get_or_insert_with(|| (Mosaic::new(size, options.longest_side), size.0, size.1));
        mosaic.put(&frame, &places(&spread, number))?;
        let single = places(&alone, number);
        if !single.is_empty() {
            let (width, height) = fitted(size, 1, options.longest_side, usize::MAX);
            let scaled = if (width, height) == size { frame } else { resize(&frame, width, height)? };
            for place in single {
                singles[place] = Some(scaled.clone());
            }
        }
        Ok(())
    })?;
    let nothing =
        || Error::NoFrame { path: path.display().to_string(), reason: "the decoder gave none".into() };
    let (mosaic, width, height) = mosaic.ok_or_else(nothing)?;
    let mut pictures = vec![mosaic.finish()?];
    for single in singles {
        pictures.push(single.ok_or_else(nothing)?);
    }
    let seconds = |frames: &[usize]| frames.iter().map(|&frame| scan.timeline.seconds(frame)).collect();
    let about = VideoAbout {
        width,
        height,
        frames: scan.timeline.frames(),
        seconds: scan.timeline.duration(),
        codec: codec.into(),
        rotation: turn.degrees().0,
        mosaic: seconds(&spread),
        singles: seconds(&alone),
        notes: notes(&scan, declared, &picked, wanted.len()),
    };
    Ok(VideoPictures { pictures, about })
}

/// Where a frame stands.
fn places(frames: &[usize], number: usize) -> Vec<usize> {
    frames.iter().enumerate().filter(|&(_, &frame)| frame == number).map(|(place, _)| place).collect()
}

pub(super) fn notes(scan: &Scan, declared: Option<f64>, picked: &Picked, wanted: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let found = scan.timeline.duration();
    if let Some(declared) = declared.filter(|declared| declared - found > (declared * 0.05).max(0.5)) {
        notes.push(format!(
            "truncated: it holds {found:.2} s of the {declared:.2} s that its headers declare"
        ));
    }
    if let Some(reason) = &scan.broken {
        notes.push(format!("damaged: reading stopped after {found:.2} s: {reason}"));
    }
    if picked.replaced > 0 {
        let replaced = picked.replaced;
        notes.push(format!(
            "{replaced} of the {wanted} frames taken could not be decoded: earlier ones stand for them"
        ));
    }
    if picked.damaged > 0 {
        notes.push(format!("{} of the {wanted} frames taken are damaged", picked.damaged));
    }
    notes
}
