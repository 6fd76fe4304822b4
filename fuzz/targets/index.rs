//! The index of a sharded checkpoint beside one whole shard: refused, or every listed tensor is in that shard.
#![no_main]

use std::sync::LazyLock;

use checkpoint::weights::WeightFiles;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const SHARD: &str = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[],"data_offsets":[4,5]}}"#;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let shard = [&(SHARD.len() as u64).to_le_bytes(), SHARD.as_bytes(), &[1; 5]].concat();
    std::fs::write(folder.path().join("x"), shard).expect("written");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(FOLDER.path().join("model.safetensors.index.json"), bytes).expect("written");
    let Ok(files) = WeightFiles::open(FOLDER.path()) else { return };
    for name in files.names() {
        assert!(["a", "b"].contains(&name));
        assert!(files.file_of(name).is_some_and(|file| file.parent() == Some(FOLDER.path())));
    }
});
