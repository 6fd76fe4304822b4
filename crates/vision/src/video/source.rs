//! A video file, opened so that nothing else is: its container, its picture stream and a decoder for it.

use std::fs::File;
use std::path::Path;
use std::sync::Once;

use ffmpeg_next as ffmpeg;

use ffmpeg::codec::{Context, Id, threading};
use ffmpeg::format::context::{Input, StreamIo};
use ffmpeg::format::stream::Disposition;
use ffmpeg::{Dictionary, Packet, media};

use super::turn::Turn;
use crate::Error;

/// The most pixels of a frame: the largest picture of the highest level of HEVC and AV1 (6.2).
pub const MAX_FRAME_PIXELS: usize = 35_651_584;

/// FFmpeg's names of the containers that are read. Playlists, scripts and devices are not among them: a file cannot
/// make the program open another one.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,h264,hevc,\
obu,ivf,mxf,mxf_opatom,nut,dv,gif,mjpeg,vc1,yuv4mpegpipe,rm,wtv,gxf,live_flv";

/// Frames a second where nothing says how many.
const RATE: f64 = 25.0;

/// An open video.
pub(crate) struct Source {
    input: Input,
    /// The picture stream.
    stream: usize,
    /// Seconds a tick of its time base.
    pub(crate) tick: f64,
    /// How its frames are turned before they are shown.
    pub(crate) turn: Turn,
    /// Seconds a frame, where only their number tells when they appear.
    pub(crate) frame_seconds: f64,
    /// Its codec's name.
    pub(crate) codec: &'static str,
    /// How long the headers say that it is, seconds.
    pub(crate) declared: Option<f64>,
}

/// Whether reading goes on.
pub(crate) enum Next {
    /// A packet of the picture stream.
    Packet(Packet),
    /// The end of the file.
    End,
    /// The file cannot be read further, in FFmpeg's words.
    Broken(String),
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// Each names the file: unreadable, empty, no known container, damaged headers, no picture stream, a codec that
    /// is not built in, frames of more than [`MAX_FRAME_PIXELS`].
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        quiet();
        let name = || path.display().to_string();
        let read = |e: std::io::Error| Error::Read { path: name(), reason: e.to_string() };
        // Asked before it is opened: opening a pipe waits for a writer.
        let about = std::fs::metadata(path).map_err(read)?;
        if !about.is_file() {
            return Err(Error::Read { path: name(), reason: "it is no plain file".into() });
        }
        if about.len() == 0 {
            return Err(Error::EmptyVideo { path: name() });
        }
        let file = File::open(path).map_err(read)?;
        let container = |e: ffmpeg::Error| Error::Container { path: name(), reason: e.to_string() };
        let io = StreamIo::from_read_seek_with_capacity(file, 1 << 16).map_err(container)?;
        let mut options = Dictionary::new();
        options.set("format_whitelist", CONTAINERS);
        options.set("protocol_whitelist", "none");
        let input = ffmpeg::format::input_from_stream(io, None, Some(options)).map_err(container)?;
        Self::choose(input, path)
    }

    fn choose(input: Input, path: &Path) -> Result<Self, Error> {
        let name = || path.display().to_string();
        let moving = |stream: &ffmpeg::Stream<'_>| {
            stream.parameters().medium() == media::Type::Video
                && !stream.disposition().contains(Disposition::ATTACHED_PIC)
        };
        let best = input.streams().best(media::Type::Video).filter(moving);
        let Some(stream) = best.or_else(|| input.streams().find(moving)) else {
            let audio = input.streams().filter(|s| s.parameters().medium() == media::Type::Audio).count();
            return Err(Error::NoPictures { path: name(), audio });
        };
        let turn = stream
            .side_data()
            .find(|data| data.kind() == ffmpeg::packet::side_data::Type::DisplayMatrix)
            .map_or_else(Turn::default, |matrix| Turn::of_matrix(matrix.data()));
        let parameters = stream.parameters();
        let codec = parameters.id().name();
        let (width, height) = size(&parameters);
        if width.saturating_mul(height) > MAX_FRAME_PIXELS {
            return Err(Error::FrameTooLarge { path: name(), width, height });
        }
        let tick = f64::from(stream.time_base());
        let own = (stream.duration() > 0).then(|| stream.duration() as f64 * tick);
        // A file's sound may be longer than its pictures.
        let whole = (input.duration() > 0 && input.nb_streams() == 1).then(|| input.duration() as f64 / 1e6);
        let rate = f64::from(stream.avg_frame_rate());
        let declared = own.or(whole);
        let positive =
            |value: f64, otherwise: f64| if value.is_finite() && value > 0.0 { value } else { otherwise };
        let (tick, frame_seconds) = (positive(tick, 1e-6), 1.0 / positive(rate, RATE));
        let stream = stream.index();
        Ok(Self { input, stream, tick, turn, frame_seconds, codec, declared })
    }

    /// A decoder for the picture stream, on so many threads.
    ///
    /// # Errors
    /// If there is none for its codec.
    pub(crate) fn decoder(&self, path: &Path, threads: usize) -> Result<ffmpeg::decoder::Video, Error> {
        let refused =
            |reason: String| Error::Codec { path: path.display().to_string(), codec: self.codec, reason };
        let stream = self.input.stream(self.stream).ok_or_else(|| refused("its stream is gone".into()))?;
        let time_base = stream.time_base();
        let mut context =
            Context::from_parameters(stream.parameters()).map_err(|e| refused(e.to_string()))?;
        let mut parallel = threading::Config::count(threads.max(1));
        parallel.kind = threading::Type::Frame;
        context.set_threading(parallel);
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(time_base);
        let id = decoder.id();
        let codec =
            ffmpeg::decoder::find(id).ok_or_else(|| refused("this FFmpeg has no decoder for it".into()))?;
        let mut options = Dictionary::new();
        options.set("max_pixels", &MAX_FRAME_PIXELS.to_string());
        let opened = decoder.open_as_with(codec, options).and_then(ffmpeg::decoder::Opened::video);
        opened.map_err(|e| refused(e.to_string()))
    }

    /// Whether leaving out frames that no other refers to changes no other frame, bit for bit. (Elsewhere they pass on
    /// probabilities, or are referred to by higher layers.)
    pub(crate) fn may_skip_unreferenced(&self) -> bool {
        [Id::H264, Id::MPEG4, Id::MPEG2VIDEO, Id::MPEG1VIDEO].iter().any(|id| id.name() == self.codec)
    }

    /// The next packet of the picture stream.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() == self.stream => return Next::Packet(packet),
                Ok(()) => {}
                Err(ffmpeg::Error::Eof) => return Next::End,
                Err(e) => return Next::Broken(e.to_string()),
            }
        }
    }
}

/// Width and height, pixels; 0 where the headers do not say.
fn size(parameters: &ffmpeg::codec::Parameters) -> (usize, usize) {
    // SAFETY: the parameters are a live stream's, and both fields are plain integers.
    let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
    (usize::try_from(width).unwrap_or(0), usize::try_from(height).unwrap_or(0))
}

/// Lets the bindings learn the words for FFmpeg's errors, and keeps FFmpeg from writing to stderr: what goes wrong is
/// told once, by us.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Without devices and filters nothing of it can fail.
        let _ = ffmpeg::init();
        ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
    });
}
