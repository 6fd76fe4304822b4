//! A video: refused, or four pictures of one shape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vision::{VideoOptions, video_pictures};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("video");
    std::fs::write(&path, bytes).expect("written");
    // Frames may be large where a few bytes say so: pictures are bounded, as in training.
    let options = VideoOptions { longest_side: Some(64), ..VideoOptions::default() };
    if let Ok(made) = video_pictures(&path, &options) {
        assert_eq!((made.pictures.len(), made.about.mosaic.len()), (4, 16));
    }
});
