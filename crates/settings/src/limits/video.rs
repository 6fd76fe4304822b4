//! How the model is shown a video: keys of one way mean nothing to the other.

use super::Limits;
use crate::position::Path;
use crate::run::{Stage, StageKind};
use crate::sections::VideoInput;

pub(super) fn check(stage: &Stage, at: &Path, limits: &mut Limits) {
    let data = &stage.data;
    let native = data.video == VideoInput::Native;
    let text = |value: Option<u32>| value.unwrap_or_default().to_string();
    for (given, key, value) in [
        (data.fps.is_some() && !native, "fps", data.fps.unwrap_or_default().to_string()),
        (data.max_frames.is_some() && !native, "max_frames", text(data.max_frames)),
        (data.longest_side.is_some() && native, "longest_side", text(data.longest_side)),
        (data.frame_cache.is_some() && native, "frame_cache", "(a folder)".into()),
    ] {
        let expected = if native { "absent beside video: native" } else { "absent without video: native" };
        limits.demand(!given, &at.key(key), value, expected);
    }
    let fps = data.fps.unwrap_or(1.0);
    limits.demand(fps > 0.0, &at.key("fps"), fps, "above 0, frames a second");
    let frames = data.max_frames.unwrap_or(2);
    limits.demand(frames >= 2, &at.key("max_frames"), frames, "at least 2, a group of frames");
    let expected = "pictures in a stage of kind vision, which looks at single ones";
    limits.demand(!native || stage.kind != StageKind::Vision, &at.key("video"), "native", expected);
}
