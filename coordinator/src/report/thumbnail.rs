//! Small pictures inside the page: it needs no other file.

use std::path::Path;

use data::{is_video_name, ready_made};
use vision::{Rgb, VideoOptions, decode, encode_jpeg, resize, video_pictures};

/// The longest side, pixels.
const SIDE: usize = 200;
/// libjpeg's.
const QUALITY: i32 = 80;

/// A picture, or a video's mosaic, as the source of an `<img>`; none where it cannot be read (any more).
pub(super) fn source(media: &[String]) -> Option<String> {
    let small = shrunk(&picture(Path::new(media.first()?))?)?;
    let bytes = encode_jpeg(&small, QUALITY).ok()?;
    Some(format!("data:image/jpeg;base64,{}", base64(&bytes)))
}

fn picture(path: &Path) -> Option<Rgb> {
    if !is_video_name(path) {
        return decode(path).ok();
    }
    if !path.is_file() {
        return decode(ready_made(path)?.first()?).ok();
    }
    let options = VideoOptions { longest_side: Some(2 * SIDE), ..VideoOptions::default() };
    video_pictures(path, &options).ok()?.pictures.into_iter().next()
}

fn shrunk(picture: &Rgb) -> Option<Rgb> {
    let (width, height) = (picture.width(), picture.height());
    let longest = width.max(height);
    if longest <= SIDE {
        return Some(picture.clone());
    }
    let side = |length: usize| (length * SIDE / longest).max(1);
    resize(picture, side(width), side(height)).ok()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            match digit <= group.len() {
                true => out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_large_picture_becomes_a_small_one_and_a_lost_one_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        let picture = Rgb::new(400, 300, vec![90; 400 * 300 * 3]).expect("sized");
        std::fs::write(&path, vision::encode_png(&picture).expect("encoded")).expect("written");
        let media = vec![path.display().to_string()];
        assert!(source(&media).is_some_and(|src| src.starts_with("data:image/jpeg;base64,/9j/")));
        let small = shrunk(&picture).expect("small");
        assert_eq!((small.width(), small.height()), (200, 150));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!((source(&media), source(&[])), (None, None));
    }
}
