//! A safetensors file: refused, or every tensor has the bytes that its shape asks for.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use checkpoint::weights::WeightFiles;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|bytes: &[u8]| {
    let path: PathBuf = FOLDER.path().join("model.safetensors");
    std::fs::write(&path, bytes).expect("written");
    let Ok(files) = WeightFiles::open_file(&path) else { return };
    for name in files.names() {
        let view = files.tensor(name).expect("a name that was given has a tensor");
        let bits = view.shape.iter().product::<usize>() * view.dtype.bitsize();
        assert_eq!(bits, 8 * view.bytes.len());
        let mut count = 0;
        let all = view.each_piece(|piece| {
            count += piece.len();
            Ok::<bool, std::io::Error>(true)
        });
        assert!(all.is_ok() && count == view.bytes.len());
    }
});
