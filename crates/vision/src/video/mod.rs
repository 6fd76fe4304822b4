//! Videos: as pictures (a mosaic over time and three single frames), and as Qwen2.5-VL takes frames itself.
//!
//! ```text
//! Source::open(path) → scan: Timeline → spread(16), spread(3) → pick: frames → upright → Mosaic, singles
//!                                     └→ sample(fps) ─────────→ pick: frames → upright → resized frames → patches
//! ```
//!
//! FFmpeg reads through a file that we opened: it opens nothing itself, and knows only the containers in
//! [`source`]. A file is read twice: once for the times of its frames, which headers do not tell reliably, and once
//! for those that are wanted, from the nearest keyframe.

mod cache;
mod convert;
mod frames;
mod mosaic;
mod native;
mod pick;
mod pictures;
mod scan;
mod source;
mod timeline;
mod turn;

pub use cache::FrameCache;
pub use frames::{FramesAbout, VideoFrames, video_frames};
pub use mosaic::{MAX_MOSAIC_PIXELS, MOSAIC_FRAMES};
pub use native::{VideoSettings, video};
pub use pictures::{PICTURES, VideoAbout, VideoOptions, VideoPictures, video_pictures};
pub use source::MAX_FRAME_PIXELS;
