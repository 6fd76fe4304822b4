//! Decoding the frames that are wanted, and as few others as that needs.

use std::path::Path;

use ffmpeg_next as ffmpeg;

use ffmpeg::{Discard, frame};

use super::scan::Scan;
use super::source::{Next, Source};
use crate::Error;

/// Errors in a row after which a decoder is given its next packet.
const PATIENCE: usize = 64;

/// What became of the wanted frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Picked {
    /// Wanted frames for which a neighbour stands.
    pub(crate) replaced: usize,
    /// Frames given that the decoder calls damaged.
    pub(crate) damaged: usize,
}

/// Gives each of the `wanted` frames (numbers in the timeline, rising) to `take`, in order, with its number.
///
/// # Errors
/// If no frame can be decoded, or `take` fails.
pub(crate) fn pick(
    path: &Path,
    scan: &Scan,
    wanted: &[usize],
    threads: usize,
    take: &mut dyn FnMut(usize, &frame::Video) -> Result<(), Error>,
) -> Result<Picked, Error> {
    let mut picker = Picker { path, scan, wanted, next: 0, picked: Picked::default(), said: None, take };
    if !scan.numbered {
        picker.directly(threads)?;
    }
    if picker.next < wanted.len() {
        // Rare: no times, fields in packets of their own, or damage. What was found stays found.
        picker.thoroughly(threads)?;
    }
    Ok(picker.picked)
}

struct Picker<'a> {
    path: &'a Path,
    scan: &'a Scan,
    wanted: &'a [usize],
    /// The first of `wanted` that is still to come.
    next: usize,
    picked: Picked,
    /// The decoder's last complaint.
    said: Option<String>,
    take: &'a mut dyn FnMut(usize, &frame::Video) -> Result<(), Error>,
}

impl Picker<'_> {
    /// When the next wanted frame appears.
    fn time(&self) -> Option<i64> {
        self.wanted.get(self.next).map(|&frame| self.scan.timeline.start(frame))
    }

    fn is_wanted(&self, time: i64) -> bool {
        let left = &self.wanted[self.next..];
        left.binary_search_by(|&frame| self.scan.timeline.start(frame).cmp(&time)).is_ok()
    }

    fn give(&mut self, frame: &frame::Video) -> Result<(), Error> {
        (self.take)(self.wanted[self.next], frame)?;
        self.picked.damaged += usize::from(frame.has_decode_errors() || frame.is_corrupt());
        self.next += 1;
        Ok(())
    }

    /// Each frame from the nearest keyframe on, without those that nothing refers to. Ends early where a frame's time
    /// is not met.
    fn directly(&mut self, threads: usize) -> Result<(), Error> {
        let mut source = Source::open(self.path)?;
        let mut decoder = source.decoder(self.path, threads)?;
        let skips = source.may_skip_unreferenced();
        let mut from = self.time().map_or(0, |time| self.scan.key_before(time));
        let mut number = 0;
        while let Next::Packet(packet) = source.next() {
            let begun = number >= from;
            number += 1;
            if !begun {
                continue;
            }
            let needless = skips && !packet.pts().is_some_and(|time| self.is_wanted(time));
            decoder.skip_frame(if needless { Discard::NonReference } else { Discard::Default });
            if let Err(error) = decoder.send_packet(&packet) {
                self.said = Some(error.to_string());
            }
            let before = self.next;
            if !self.exact(&mut decoder)? {
                return Ok(());
            }
            let Some(time) = self.time() else { return Ok(()) };
            let key = self.scan.key_before(time);
            if self.next > before && key > number {
                decoder.flush();
                from = key;
            }
        }
        let _ = decoder.send_eof();
        self.exact(&mut decoder).map(drop)
    }

    /// Gives those of the decoder's frames whose times are wanted; false if one was missed.
    fn exact(&mut self, decoder: &mut ffmpeg::decoder::Video) -> Result<bool, Error> {
        let mut frame = frame::Video::empty();
        while receive(decoder, &mut frame, &mut self.said) {
            match (frame.pts().or_else(|| frame.timestamp()), self.time()) {
                (_, None) => return Ok(true),
                (Some(shown), Some(wanted)) if shown == wanted => self.give(&frame)?,
                (Some(shown), Some(wanted)) if shown < wanted => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Every frame from the first on; one whose time is not met is replaced by the one before it.
    fn thoroughly(&mut self, threads: usize) -> Result<(), Error> {
        let mut source = Source::open(self.path)?;
        let mut decoder = source.decoder(self.path, threads)?;
        let mut last: Option<frame::Video> = None;
        let mut shown = 0;
        let mut open = true;
        while open && self.next < self.wanted.len() {
            match source.next() {
                Next::Packet(packet) => {
                    if let Err(error) = decoder.send_packet(&packet) {
                        self.said = Some(error.to_string());
                    }
                }
                Next::End | Next::Broken(_) => {
                    open = false;
                    let _ = decoder.send_eof();
                }
            }
            let mut frame = frame::Video::empty();
            while receive(&mut decoder, &mut frame, &mut self.said) {
                let time =
                    if self.scan.numbered { Some(shown) } else { frame.pts().or_else(|| frame.timestamp()) };
                shown += 1;
                while let (Some(time), Some(wanted)) = (time, self.time())
                    && time >= wanted
                {
                    let met = time == wanted;
                    self.picked.replaced += usize::from(!met);
                    self.give(last.as_ref().filter(|_| !met).unwrap_or(&frame))?;
                }
                last = Some(std::mem::replace(&mut frame, frame::Video::empty()));
            }
        }
        while self.next < self.wanted.len() {
            let Some(last) = &last else {
                let reason = self.said.take().unwrap_or_else(|| "the decoder gave none".into());
                return Err(Error::NoFrame { path: self.path.display().to_string(), reason });
            };
            self.picked.replaced += 1;
            self.give(last)?;
        }
        Ok(())
    }
}

/// The decoder's next frame, if it has one; what it cannot decode is said and passed over.
fn receive(
    decoder: &mut ffmpeg::decoder::Video,
    frame: &mut frame::Video,
    said: &mut Option<String>,
) -> bool {
    for _ in 0..PATIENCE {
        match decoder.receive_frame(frame) {
            Ok(()) => return true,
            Err(ffmpeg::Error::Eof) => return false,
            Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => return false,
            Err(error) => *said = Some(error.to_string()),
        }
    }
    false
}
