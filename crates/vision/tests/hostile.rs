//! No file makes the decoder panic, hang or allocate what the file's few bytes cannot hold.

use std::fs;
use std::path::Path;

use vision::{Draws, Error, decode, decode_bytes};

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("there").filter_map(Result::ok).map(|e| e.path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|e| e != "py" && e != "tsv"));
    files.iter().map(|path| (path.display().to_string(), fs::read(path).expect("readable"))).collect()
}

#[test]
fn a_file_cut_short_is_an_error_that_names_it() {
    for (name, bytes) in fixtures() {
        for end in [1, 2, 4, 11, 20, bytes.len() / 4, bytes.len() / 2, bytes.len() * 3 / 4] {
            // What is left of a tiny uncompressed file can still be whole.
            if let Err(error) = decode_bytes("cut.jpg", &bytes[..end]) {
                assert!(error.to_string().starts_with("cut.jpg: "), "{error}");
            } else {
                assert!(!name.ends_with("jpg"), "{name}: {end} of {} bytes decoded", bytes.len());
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut draws = Draws::new(11, [0; 3]);
    for (_, bytes) in fixtures() {
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..=draws.below(8) {
                let place = draws.below(damaged.len() as u32) as usize;
                damaged[place] = draws.below(256) as u8;
            }
            let _ = decode_bytes("damaged", &damaged);
        }
    }
}

#[test]
fn what_is_no_picture_says_so_whatever_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let empty = decode(&write("empty.png", b"")).expect_err("empty");
    assert!(matches!(empty, Error::Empty { .. }) && empty.to_string().contains("empty.png"), "{empty}");
    let text = decode(&write("text.jpg", b"not a picture at all")).expect_err("text");
    assert!(matches!(text, Error::Format { .. }) && text.to_string().contains("text.jpg"), "{text}");
    assert!(matches!(decode(&folder.path().join("none.png")), Err(Error::Read { .. })));
    assert!(matches!(decode(folder.path()), Err(Error::Read { .. })));
}

#[test]
fn a_bomb_is_refused_before_its_pixels_are_allocated() {
    let (_, mut jpeg) = fixtures().into_iter().find(|(name, _)| name.ends_with("420.jpg")).expect("there");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let error = decode_bytes("bomb.jpg", &jpeg).expect_err("4 gigapixels");
    assert!(matches!(error, Error::TooLarge { width: 65_500, height: 65_500, .. }), "{error}");
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\0\0\0\x01\0\0\x08\x02\0\0\0".to_vec();
    png.extend([0x26, 0xd2, 0x5b, 0x12]);
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    let error = decode_bytes("bomb.png", &png).expect_err("4 gigapixels");
    assert!(matches!(error, Error::TooLarge { .. } | Error::Damaged { .. }), "{error}");
}
