//! A pass over a file's packets, without decoding: when frames appear, and from where they can be decoded.

use std::path::Path;

use ffmpeg_next as ffmpeg;

use super::source::{Next, Source};
use super::timeline::Timeline;
use crate::Error;

/// The most packets that are counted: 38 hours at 30 frames a second.
const MAX_PACKETS: usize = 1 << 22;

/// What a pass over a file has found.
pub(crate) struct Scan {
    /// When frames appear.
    pub(crate) timeline: Timeline,
    /// Keyframes: the packet's number in the file, and when its frame appears; both rise.
    pub(crate) keys: Vec<(usize, i64)>,
    /// Whether times are only numbers of frames: packets do not tell them.
    pub(crate) numbered: bool,
    /// Why reading ended before the file's end, in FFmpeg's words.
    pub(crate) broken: Option<String>,
}

impl Scan {
    /// Reads all packets of a freshly opened source.
    ///
    /// # Errors
    /// If there is no whole packet, or more than [`MAX_PACKETS`].
    pub(crate) fn of(source: &mut Source, path: &Path) -> Result<Self, Error> {
        let nothing = |reason: String| Error::NoFrame { path: path.display().to_string(), reason };
        let (mut starts, mut keys) = (Vec::new(), Vec::new());
        let mut last: Option<(i64, i64)> = None;
        let (mut count, mut untimed) = (0, false);
        let broken = loop {
            let packet = match source.next() {
                Next::Packet(packet) => packet,
                Next::End => break None,
                Next::Broken(reason) => break Some(reason),
            };
            count += 1;
            if count > MAX_PACKETS {
                return Err(nothing(format!("it has more than {MAX_PACKETS} packets")));
            }
            let Some(start) = packet.pts() else {
                untimed = true;
                continue;
            };
            if packet.is_key() && keys.last().is_none_or(|&(_, before)| before < start) {
                keys.push((count - 1, start));
            }
            if is_shown(&packet) {
                starts.push(start);
                last = last.max(Some((start, packet.duration())));
            }
        };
        let timed =
            (!untimed).then(|| Timeline::new(starts, last.map(|(_, ticks)| ticks), source.tick)).flatten();
        if let Some(timeline) = timed {
            return Ok(Self { timeline, keys, numbered: false, broken });
        }
        let numbers = (0..count as i64).collect();
        let timeline = Timeline::new(numbers, Some(1), source.frame_seconds).ok_or_else(|| {
            nothing(broken.clone().unwrap_or_else(|| "its picture stream holds no packet".into()))
        })?;
        Ok(Self { timeline, keys: Vec::new(), numbered: true, broken })
    }

    /// The number of the last keyframe's packet that is shown no later than `time`.
    pub(crate) fn key_before(&self, time: i64) -> usize {
        let after = self.keys.partition_point(|&(_, start)| start <= time);
        after.checked_sub(1).map_or(0, |at| self.keys[at].0)
    }
}

/// Whether a packet becomes a frame on screen: it is whole, and no edit list leaves it out.
fn is_shown(packet: &ffmpeg::Packet) -> bool {
    use ffmpeg::packet::Ref as _;
    // SAFETY: the packet is alive, and its flags are a plain integer.
    let flags = unsafe { (*packet.as_ptr()).flags };
    flags & (ffmpeg::ffi::AV_PKT_FLAG_DISCARD | ffmpeg::ffi::AV_PKT_FLAG_CORRUPT) == 0
}
