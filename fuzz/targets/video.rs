//! A video: refused, or four pictures of one shape; and as many of its own frames as are asked for at most.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vision::{VideoOptions, VideoSettings, video_frames, video_pictures};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("video");
    std::fs::write(&path, bytes).expect("written");
    // Frames may be large where a few bytes say so: pictures are bounded, as in training.
    let options = VideoOptions { longest_side: Some(64), ..VideoOptions::default() };
    if let Ok(made) = video_pictures(&path, &options) {
        assert_eq!((made.pictures.len(), made.about.mosaic.len()), (4, 16));
    }
    let mut settings = VideoSettings { max_frames: 6, ..VideoSettings::default() };
    (settings.frames.min_pixels, settings.frames.max_pixels) = (28 * 28, 28 * 28 * 4);
    if let Ok(taken) = video_frames(&path, &settings, 1) {
        assert_eq!((taken.frames.len(), taken.about.taken.len() > 6), (taken.about.taken.len(), false));
        let cut = taken.patches(&settings).expect("frames that were taken");
        assert_eq!(cut.values.len(), cut.grid.patches() * 3 * 2 * 14 * 14);
        assert!(taken.seconds_per_group(&settings) > 0.0);
    }
});
