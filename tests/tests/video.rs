//! Mosaics and single frames beside PyAV's: three published videos and hard ones that are made of one of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{cache, fail, script, succeed, text};
use vision::decode;

/// Hard videos that become pictures, by `tests/python/video_reference.py make`.
const HARD: [&str; 17] = [
    "variable_rate.mp4",
    "plain.mp4",
    "rotated_90.mp4",
    "rotated_180.mp4",
    "rotated_270.mp4",
    "ten_bit.mp4",
    "ten_bit_hevc.mkv",
    "odd_size.webm",
    "odd_444.mp4",
    "full_range_709.mp4",
    "no_duration.mkv",
    "no_times.h264",
    "open_gop.ts",
    "one_frame.mp4",
    "late_start.mp4",
    "packed.avi",
    "truncated.mp4",
];

fn published(name: &str) -> PathBuf {
    cache().join("videos").join(name)
}

fn seconds(about: &Value, key: &str) -> Vec<f64> {
    about[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Compares our pictures of a video with the reference's, and returns what `worker frames` says of it.
fn compare(video: &Path, folder: &Path) -> Value {
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.join(name));
    fs::create_dir_all(&theirs).unwrap();
    let line = succeed("worker", &["frames", "--video", text(video), "--output", text(&ours)]);
    let about: Value = serde_json::from_str(&line).unwrap();
    let reference = script("video_reference.py", &["pictures", text(video), text(&theirs)]);
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let name = video.file_stem().unwrap().to_str().unwrap();
    assert_eq!(about["frames"], reference["frames"], "{name}");
    let half = reference["seconds"].as_f64().unwrap() / reference["frames"].as_f64().unwrap() / 2.0;
    for key in ["mosaic", "singles"] {
        for (ours, theirs) in seconds(&about, key).into_iter().zip(seconds(&reference, key)) {
            assert!((ours - theirs).abs() < half, "{name}: {key}: {ours} and {theirs}");
        }
    }
    for number in 0..4 {
        let read = |folder: &Path| decode(&folder.join(format!("{name}_{number}.png"))).unwrap();
        let (ours, theirs) = (read(&ours), read(&theirs));
        assert_eq!((ours.width(), ours.height()), (theirs.width(), theirs.height()), "{name}_{number}");
        let differences = ours.data().iter().zip(theirs.data()).map(|(a, b)| u64::from(a.abs_diff(*b)));
        let mean = differences.clone().sum::<u64>() as f64 / ours.data().len() as f64;
        // Two versions of libswscale round apart, and place the chroma of odd sizes apart; another frame is 3 and more.
        assert!(mean < 0.75, "{name}_{number}: {mean} levels apart");
        println!("{name}_{number}: mean {mean:.4}, largest {}", differences.max().unwrap());
    }
    about
}

#[test]
fn published_videos_become_the_pictures_that_pyav_makes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    for (name, frames) in [("bikes.mp4", 250), ("bigbuckbunny.mp4", 132), ("carphone_pristine.mp4", 120)] {
        let about = compare(&published(name), folder.path());
        assert_eq!(
            (about["frames"].as_u64(), &about["notes"]),
            (Some(frames), &Value::Array(Vec::new())),
            "{name}"
        );
    }
}

#[test]
fn frames_of_published_videos_are_those_that_transformers_samples() {
    let folder = tempfile::tempdir().unwrap();
    for (name, fps) in [("bikes.mp4", "2"), ("bigbuckbunny.mp4", "2"), ("carphone_pristine.mp4", "1.5")] {
        let (video, output) = (published(name), folder.path().join(name));
        let line = ["frames", "--native", "--fps", fps, "--video", text(&video), "--output", text(&output)];
        let said = succeed("worker", &line);
        let about: Value = serde_json::from_str(&said).unwrap();
        let sampled: Value =
            serde_json::from_str(&script("video_reference.py", &["sample", &said, fps])).unwrap();
        assert_eq!(about["taken"], sampled, "{name}");
        assert_eq!(fs::read_dir(&output).unwrap().count(), sampled.as_array().unwrap().len(), "{name}");
    }
}

#[test]
fn hard_videos_become_the_pictures_that_pyav_makes_of_them_and_broken_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    script("video_reference.py", &["make", text(&published("bikes.mp4")), text(folder.path())]);
    for name in HARD {
        let about = compare(&folder.path().join(name), folder.path());
        let rotation =
            name.strip_prefix("rotated_").map_or(0, |rest| rest[..rest.len() - 4].parse().unwrap());
        // The container counts counterclockwise.
        assert_eq!(about["rotation"].as_u64(), Some((360 - rotation) % 360), "{name}");
        let notes = about["notes"].as_array().unwrap();
        if name == "truncated.mp4" {
            assert!(notes[0].as_str().unwrap().starts_with("truncated: it holds 5."), "{notes:?}");
        } else {
            assert!(notes.is_empty(), "{name}: {notes:?}");
        }
    }
    for (name, words) in [
        ("audio_only.mp4", "audio_only.mp4: holds no pictures, only 1 audio streams; expected a video"),
        ("truncated_index.mp4", "truncated_index.mp4: is no video that can be read"),
        ("absent.mp4", "absent.mp4: cannot be read"),
    ] {
        let video = folder.path().join(name);
        let arguments = ["frames", "--video", text(&video), "--output", text(folder.path())];
        let said = fail("worker", &arguments, 2);
        assert!(said.lines().count() == 1 && said.contains(words), "{said}");
    }
}
