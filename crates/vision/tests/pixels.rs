//! Pixels are Pillow's and patches transformers': `fixtures/record.py` recorded both.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use vision::{PatchSettings, decode, patches, resize};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of one kind: file, two numbers, digest.
fn expected(kind: &str) -> Vec<(String, usize, usize, String)> {
    let text = std::fs::read_to_string(fixture("expected.tsv")).expect("recorded");
    let lines =
        text.lines().map(|line| line.split('\t').collect::<Vec<_>>()).filter(|fields| fields[0] == kind);
    lines
        .map(|f| (f[1].into(), f[2].parse().expect("a number"), f[3].parse().expect("a number"), f[4].into()))
        .collect()
}

#[test]
fn every_format_and_mode_decodes_as_pillow_decodes_it() {
    let expected = expected("decode");
    assert_eq!(expected.len(), 27);
    for (file, width, height, sha256) in expected {
        let picture = decode(&fixture(&file)).expect("readable");
        assert_eq!((picture.width(), picture.height()), (width, height), "{file}");
        assert_eq!(digest(picture.data()), sha256, "{file}");
    }
}

#[test]
fn every_size_resamples_as_pillow_resamples_it() {
    for (file, width, height, sha256) in expected("resize") {
        let resized = resize(&decode(&fixture(&file)).expect("readable"), width, height).expect("fits");
        assert_eq!(digest(resized.data()), sha256, "{width}x{height}");
    }
}

#[test]
fn patches_are_those_of_transformers_bit_for_bit() {
    for (file, min_pixels, max_pixels, sha256) in expected("patches") {
        let settings = PatchSettings { min_pixels, max_pixels, ..PatchSettings::default() };
        let cut = patches(&decode(&fixture(&file)).expect("readable"), &settings).expect("fits");
        assert_eq!(cut.values.len(), cut.grid.patches() * 3 * 2 * 14 * 14);
        let bytes: Vec<u8> = cut.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(digest(&bytes), sha256, "{min_pixels} to {max_pixels} pixels");
    }
}
