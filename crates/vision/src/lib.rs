//! Pictures as Qwen2.5-VL takes them: decode, distort, resize, patches; no tensors.
//!
//! ```text
//! decode(path) → Rgb → [augment] → resize(smart_resize) → patches [grid, 3·2·14·14]
//!                 └──→ Distortion::apply(level, seed) → Rgb → encode_png
//! video(frames) → patches [grid, 3·2·14·14], two frames a patch
//! video_frames(path) → frames at an even rate, each Rgb → patches
//! video_pictures(path) → a mosaic of 16 frames and three single ones, each Rgb
//! ```
//!
//! Pixels are Pillow's: the published runs decoded and resized with it, and one 8-bit level on 1 % of the pixels
//! moves a small model's log-probabilities by 0.05. Nothing here starts a thread, but FFmpeg's decoders where they are
//! told to.

mod augment;
mod colour;
mod decode;
mod distort;
mod encode;
mod error;
mod jpeg;
mod pages;
mod patches;
mod random;
mod resample;
mod resize;
mod rgb;
mod video;

pub use augment::{Augment, augment};
pub use decode::{MAX_PIXELS, decode, decode_bytes};
pub use distort::{Distortion, LEVELS, Level};
pub use encode::encode_png;
pub use error::Error;
pub use jpeg::encode_jpeg;
pub use patches::{Grid, PatchSettings, Patches, patches};
pub use random::Draws;
pub use resize::{resize, smart_resize};
pub use rgb::Rgb;
pub use video::{
    FrameCache, FramesAbout, MAX_FRAME_PIXELS, MAX_MOSAIC_PIXELS, MOSAIC_FRAMES, PICTURES, VideoAbout,
    VideoFrames, VideoOptions, VideoPictures, VideoSettings, video, video_frames, video_pictures,
};
