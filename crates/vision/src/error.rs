//! What can be wrong with a picture or with what is asked of it.

use crate::decode::MAX_PIXELS;

/// A picture that cannot be used, or a wrong request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// Zero bytes.
    #[error("{path}: is empty (0 bytes), expected a picture")]
    Empty {
        /// The file.
        path: String,
    },
    /// The content is of no known format, whatever the name says.
    #[error("{path}: is no picture that can be read: its content is not JPEG, PNG, BMP, GIF, TIFF or WebP")]
    Format {
        /// The file.
        path: String,
    },
    /// More pixels than are decoded: refused before anything is allocated for them.
    #[error(
        "{path}: {width}x{height} pixels are more than the {MAX_PIXELS} that are decoded: scale it down first"
    )]
    TooLarge {
        /// The file.
        path: String,
        /// Pixels.
        width: u64,
        /// Pixels.
        height: u64,
    },
    /// The file begins as its format should and then goes wrong.
    #[error("{path}: damaged or truncated {format}: {reason}; expected a whole picture: replace the file")]
    Damaged {
        /// The file.
        path: String,
        /// The format that its first bytes name.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// Width, height and the number of bytes do not belong together.
    #[error("a picture of {width}x{height} has {expected} bytes, not {found}")]
    Shape {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// 3 · width · height.
        expected: usize,
        /// What there was.
        found: usize,
    },
    /// A side of zero, or more pixels than are handled.
    #[error("{width}x{height} is no size for a picture: from 1 to {MAX_PIXELS} pixels")]
    Size {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
    },
    /// Beyond what the published processor takes.
    #[error("{width}x{height}: the aspect ratio {ratio} is above 200, the most that the model takes")]
    Aspect {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// The longer side over the shorter one.
        ratio: f64,
    },
    /// Zero bytes.
    #[error("{path}: is empty (0 bytes), expected a video")]
    EmptyVideo {
        /// The file.
        path: String,
    },
    /// No container that is read, or its headers are damaged.
    #[error(
        "{path}: is no video that can be read: {reason}; expected a whole MP4, WebM, Matroska, AVI or MPEG file, or the like"
    )]
    Container {
        /// The file.
        path: String,
        /// FFmpeg's words.
        reason: String,
    },
    /// Nothing to see.
    #[error("{path}: holds no pictures, only {audio} audio streams; expected a video")]
    NoPictures {
        /// The file.
        path: String,
        /// Audio streams.
        audio: usize,
    },
    /// A codec that is not built in, or that refuses the stream's headers.
    #[error("{path}: {codec} cannot be decoded: {reason}; convert the video, for example to H.264")]
    Codec {
        /// The file.
        path: String,
        /// FFmpeg's name for it.
        codec: &'static str,
        /// Why.
        reason: String,
    },
    /// More pixels than are decoded: refused before anything is allocated for them.
    #[error(
        "{path}: frames of {width}x{height} pixels are more than the {max} that are decoded: scale the video down first",
        max = crate::MAX_FRAME_PIXELS
    )]
    FrameTooLarge {
        /// The file.
        path: String,
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
    },
    /// No frame comes out of it.
    #[error("{path}: no frame can be decoded: {reason}; expected a whole video: replace the file")]
    NoFrame {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A video without frames.
    #[error("a video has no frames, expected at least one")]
    NoFrames,
    /// Frames of one video have one size.
    #[error(
        "{path}: the frame has {width}x{height} pixels, the video's first one {first_width}x{first_height}"
    )]
    FrameSize {
        /// The frame's file.
        path: String,
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Of the first frame, pixels.
        first_width: usize,
        /// Of the first frame, pixels.
        first_height: usize,
    },
    /// A processor configuration that cannot cut a picture.
    #[error("patch settings: {0}")]
    Settings(String),
    /// A cut that does not lie inside the picture.
    #[error("the {width}x{height} cut at ({x}, {y}) leaves a picture of {of_width}x{of_height}")]
    Cut {
        /// Left edge, pixels.
        x: usize,
        /// Upper edge, pixels.
        y: usize,
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// The picture's width.
        of_width: usize,
        /// The picture's height.
        of_height: usize,
    },
    /// A distortion that is not built in.
    #[error("KADID-10k's distortion type {kind} is not built in: there are {known}")]
    Kind {
        /// What was asked for.
        kind: u8,
        /// The numbers that exist.
        known: String,
    },
    /// Levels go from 1 to 5.
    #[error("distortion level {0} does not exist: KADID-10k has 1 to 5")]
    Level(u8),
    /// A library refused to encode.
    #[error("a {width}x{height} picture cannot be encoded as {format}: {reason}")]
    Encode {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// PNG or JPEG.
        format: &'static str,
        /// The encoder's words.
        reason: String,
    },
}
