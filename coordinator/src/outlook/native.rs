//! Sizes of what the model sees of a video that it is shown itself: a picture's for each group of frames.

use std::path::Path;

use settings::Data;
use vision::{PatchSettings, VideoSettings, video_frames};

/// As a stage samples; frames have the bounds of pictures, as in the published checkpoints.
fn sampling(data: &Data) -> VideoSettings {
    let own = VideoSettings::default();
    VideoSettings {
        frames: PatchSettings::default(),
        fps: data.fps.unwrap_or(own.fps),
        max_frames: data.max_frames.map_or(own.max_frames, |frames| frames as usize),
        ..own
    }
}

/// Of a declared video, whose length is not known: as many frames as there may be at most.
pub(super) fn at_most(frame: (usize, usize), data: &Data) -> Vec<(usize, usize)> {
    let sampling = sampling(data);
    vec![frame; sampling.max_frames.div_ceil(sampling.frames.temporal)]
}

/// Of a video file; none where it cannot be read, which the run itself will say.
pub(super) fn groups(path: &Path, data: &Data) -> Vec<(usize, usize)> {
    let sampling = sampling(data);
    let Ok(taken) = video_frames(path, &sampling, 1) else { return Vec::new() };
    let groups = taken.frames.len().div_ceil(sampling.frames.temporal);
    vec![(taken.about.width, taken.about.height); groups]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_video_is_planned_with_the_most_frames_that_it_may_have() {
        let run = settings::default_run(&["data.video=native".into(), "data.max_frames=31".into()]);
        let data = run.expect("settings").stages.remove(0).data;
        assert_eq!(at_most((960, 540), &data), [(960, 540); 16]);
    }
}
