//! Frames of small videos whose k-th frame is flat, of level 8 k + 16 (`fixtures/videos/record.py`).

use std::fs;
use std::path::{Path, PathBuf};

use vision::{Draws, Error, FrameCache, Rgb, VideoOptions, VideoPictures, video_pictures};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/videos").join(name)
}

fn pictures(path: &Path) -> Result<VideoPictures, Error> {
    video_pictures(path, &VideoOptions::default())
}

/// The frames' numbers in a picture of so many a side, by their levels.
fn numbers(picture: &Rgb, side: usize) -> Vec<usize> {
    let (width, height) = (picture.width() / side, picture.height() / side);
    let centres = (0..side * side).map(|k| (k % side * width + width / 2, k / side * height + height / 2));
    centres.map(|(x, y)| (usize::from(picture.row(y)[x * 3]).saturating_sub(12)) / 8).collect()
}

/// Of 24 frames a tenth of a second each.
const SPREAD: [usize; 16] = [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23];

#[test]
fn every_container_gives_the_frames_in_the_middles_of_sixteen_parts() {
    for name in ["flat.mp4", "flat.mkv", "flat.ts", "flat.h264", "flat.avi", "flat.webm"] {
        let video = pictures(&fixture(name)).expect(name);
        assert_eq!(video.pictures.len(), 4, "{name}");
        assert_eq!((video.pictures[0].width(), video.pictures[0].height()), (128, 64), "{name}");
        assert_eq!(numbers(&video.pictures[0], 4), SPREAD, "{name}");
        let singles: Vec<usize> =
            video.pictures[1..].iter().flat_map(|picture| numbers(picture, 1)).collect();
        assert_eq!(singles, [4, 12, 20], "{name}");
        let about = video.about;
        assert_eq!((about.frames, about.width, about.height, about.rotation), (24, 32, 16, 0), "{name}");
        let rate = about.seconds / 24.0;
        assert!((about.mosaic[1] - 2.0 * rate).abs() < 0.002, "{name}: {about:?}");
        assert_eq!(about.notes, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn one_frame_is_every_frame() {
    let video = pictures(&fixture("one.mp4")).expect("a frame");
    assert_eq!(numbers(&video.pictures[0], 4), [0; 16]);
    assert_eq!((video.about.frames, video.about.mosaic), (1, vec![0.0; 16]));
}

#[test]
fn threads_and_a_longest_side_change_no_choice_of_frames() {
    let options = VideoOptions { longest_side: Some(64), threads: 3 };
    let video = video_pictures(&fixture("flat.mp4"), &options).expect("scales");
    assert_eq!((video.pictures[0].width(), video.pictures[0].height()), (64, 32));
    assert_eq!((video.pictures[1].width(), video.pictures[1].height()), (32, 16));
    assert_eq!(numbers(&video.pictures[0], 4), SPREAD);
}

#[test]
fn what_holds_no_pictures_says_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let sound = pictures(&fixture("sound.m4a")).expect_err("sound");
    assert!(matches!(sound, Error::NoPictures { audio: 1, .. }), "{sound}");
    assert!(sound.to_string().contains("sound.m4a: holds no pictures, only 1 audio stream"), "{sound}");
    assert!(matches!(pictures(&write("a.mp4", b"")), Err(Error::EmptyVideo { .. })));
    let text = pictures(&write("b.mp4", b"no video at all")).expect_err("text");
    assert!(
        matches!(&text, Error::Container { .. })
            && text.to_string().contains("b.mp4: is no video that can be read: Invalid data"),
        "{text}"
    );
    assert!(matches!(pictures(&folder.path().join("none.mp4")), Err(Error::Read { .. })));
    assert!(matches!(pictures(folder.path()), Err(Error::Read { .. })));
}

#[test]
fn a_file_cannot_make_another_one_be_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = fixture("flat.ts").display().to_string();
    for (name, text) in [
        ("a.m3u8", format!("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{inner}\n#EXT-X-ENDLIST\n")),
        ("b.mp4", format!("ffconcat version 1.0\nfile '{inner}'\n")),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        assert!(matches!(pictures(&path), Err(Error::Container { .. })), "{name}");
    }
}

#[test]
fn a_video_cut_short_gives_what_it_holds_and_says_so_or_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["flat.mp4", "flat.mkv", "flat.ts", "flat.avi", "flat.webm", "one.mp4"] {
        let bytes = fs::read(fixture(name)).expect("readable");
        for tenth in 1..10 {
            let path = folder.path().join(format!("{tenth}-{name}"));
            fs::write(&path, &bytes[..bytes.len() * tenth / 10]).expect("written");
            match pictures(&path) {
                Ok(video) => {
                    assert!(video.about.frames <= 24, "{name}");
                    let shown = numbers(&video.pictures[0], 4);
                    assert!(shown.is_sorted(), "{name} to {tenth} tenths: {shown:?}");
                    // Streams without a declared length cannot be known to be cut.
                    let tells = name == "flat.mp4" && video.about.frames < 18;
                    assert!(!tells || !video.about.notes.is_empty(), "{tenth}: {:?}", video.about);
                }
                Err(error) => {
                    assert!(error.to_string().contains(&format!("{tenth}-{name}: ")), "{error}");
                }
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut draws = Draws::new(12, [0; 3]);
    for name in
        ["flat.mp4", "flat.mkv", "flat.ts", "flat.h264", "flat.avi", "flat.webm", "one.mp4", "sound.m4a"]
    {
        let whole = fs::read(fixture(name)).expect("readable");
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=draws.below(8) {
                let place = draws.below(bytes.len() as u32) as usize;
                bytes[place] = draws.below(256) as u8;
            }
            let path = folder.path().join(name);
            fs::write(&path, bytes).expect("written");
            if let Err(error) = pictures(&path) {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}

#[test]
fn a_video_of_the_same_content_is_decoded_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = FrameCache::new(folder.path().join("kept"));
    let options = VideoOptions::default();
    let first = cache.pictures(&fixture("flat.mp4"), &options).expect("decoded");
    let copy = folder.path().join("copy.mp4");
    fs::copy(fixture("flat.mp4"), &copy).expect("copied");
    let kept: Vec<PathBuf> = fs::read_dir(folder.path().join("kept"))
        .expect("a cache")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(kept.len(), 1);
    // What is taken from the cache shows by a mark put there.
    let marked = Rgb::new(1, 1, vec![7; 3]).expect("a pixel");
    fs::write(kept[0].join("1.png"), vision::encode_png(&marked).expect("encodes")).expect("written");
    let second = cache.pictures(&copy, &options).expect("kept");
    assert_eq!((&second.pictures[0], &second.pictures[1]), (&first.pictures[0], &marked));
    // A damaged entry is made anew in memory, and another size is another entry.
    fs::write(kept[0].join("0.png"), b"x").expect("written");
    assert_eq!(cache.pictures(&copy, &options).expect("decoded"), first);
    let small = VideoOptions { longest_side: Some(32), ..options };
    assert_eq!(cache.pictures(&copy, &small).expect("decoded").pictures[0].width(), 32);
}
