//! A picture: refused, or as many values as its size says; cutting it in patches never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vision::{PatchSettings, decode_bytes, patches};

fuzz_target!(|bytes: &[u8]| {
    let Ok(picture) = decode_bytes("picture", bytes) else { return };
    assert_eq!(picture.data().len(), 3 * picture.width() * picture.height());
    let settings = PatchSettings { max_pixels: 28 * 28 * 4, ..PatchSettings::default() };
    if let Ok(cut) = patches(&picture, &settings) {
        assert_eq!(cut.values.len(), cut.grid.patches() * 3 * 2 * 14 * 14);
    }
});
