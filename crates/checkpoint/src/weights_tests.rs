#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use super::*;
use std::fs;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn entry(name: &str, from: usize, to: usize) -> String {
    format!(r#""{name}":{{"dtype":"F32","shape":[{}],"data_offsets":[{from},{to}]}}"#, (to - from) / 4)
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn error(files: &[(&str, Vec<u8>)]) -> String {
    WeightFiles::open(folder(files).path()).unwrap_err().to_string()
}

#[test]
fn one_file_gives_its_tensors() {
    let bytes = file(&format!("{{{},{}}}", entry("a", 0, 8), entry("b", 8, 12)), &[7; 12]);
    let folder = folder(&[(SINGLE, bytes)]);
    let weights = WeightFiles::open(folder.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    let view = weights.tensor("a").unwrap();
    assert_eq!((view.dtype, view.shape, view.bytes), (Dtype::F32, [2].as_slice(), [7; 8].as_slice()));
    assert!(weights.tensor("c").is_none());
}

#[test]
fn shards_are_found_through_the_index() {
    let index = br#"{"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}"#.to_vec();
    let x = file(&format!("{{{}}}", entry("a", 0, 4)), &[1; 4]);
    let y = file(&format!("{{{}}}", entry("b", 0, 4)), &[2; 4]);
    let folder = folder(&[(INDEX, index), ("x.safetensors", x), ("y.safetensors", y)]);
    let weights = WeightFiles::open(folder.path()).unwrap();
    assert_eq!(weights.tensor("b").unwrap().bytes, [2; 4]);
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let whole = file(&format!("{{{}}}", entry("a", 0, 8)), &[0; 8]);
    let lies = [
        Vec::new(),
        vec![0; 7],
        whole[..whole.len() - 1].to_vec(),
        [whole.clone(), vec![0]].concat(),
        u64::MAX.to_le_bytes().to_vec(),
        file(&format!("{{{}}}", entry("a", 4, 8)), &[0; 8]),
        file(r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#, &[0; 8]),
        file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, &[0; 8]),
        file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#, &[0; 8]),
        file("{", &[0; 8]),
    ];
    for bytes in lies {
        let message = error(&[(SINGLE, bytes)]);
        assert!(message.contains("model.safetensors: not a whole safetensors file"), "{message}");
    }
}

#[test]
fn an_index_cannot_leave_its_directory() {
    for outside in ["../x.safetensors", "/etc/passwd", "a/x.safetensors", "..", "."] {
        let index = format!(r#"{{"weight_map":{{"a":"{outside}"}}}}"#);
        let message = error(&[(INDEX, index.into_bytes())]);
        assert!(message.contains("which is not a file of this directory"), "{message}");
    }
}

#[test]
fn a_missing_shard_is_named() {
    let message = error(&[(INDEX, br#"{"weight_map":{"a":"x.safetensors"}}"#.to_vec())]);
    assert!(message.contains("missing beside it: x.safetensors"), "{message}");
}

#[test]
fn a_tensor_that_its_shard_lacks_is_named() {
    let x = file(&format!("{{{}}}", entry("a", 0, 4)), &[1; 4]);
    let index = br#"{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}"#.to_vec();
    let message = error(&[(INDEX, index), ("x.safetensors", x)]);
    assert!(message.contains("b is not in x.safetensors"), "{message}");
}

#[test]
fn a_directory_without_weights_says_what_was_expected() {
    assert!(error(&[]).contains("expected model.safetensors or model.safetensors.index.json"));
}
