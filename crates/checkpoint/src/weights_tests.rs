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
fn a_damaged_file_is_named_with_what_is_wrong_in_it() {
    let whole = file(&format!("{{{}}}", entry("a", 0, 8)), &[0; 8]);
    let said = |header: &str| file(header, &[0; 8]);
    let two = |b: &str| said(&format!("{{{},{b}}}", entry("a", 0, 4)));
    let shaped = |shape: &str, to: u64| {
        said(&format!(r#"{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,{to}]}}}}"#))
    };
    let lies = [
        (Vec::new(), "it has 0 bytes, the length of its header alone takes 8"),
        (vec![0; 7], "it has 7 bytes"),
        (whole[..20].to_vec(), "its header is said to have 54 bytes, expected at most 12"),
        (
            u64::MAX.to_le_bytes().to_vec(),
            "its header is said to have 18446744073709551615 bytes, expected at most 0",
        ),
        (whole[..whole.len() - 1].to_vec(), "tensor a ends at byte 8 of the data, of which there are 7"),
        ([whole.clone(), vec![0]].concat(), "its tensors end at byte 8 of the data, of which there are 9"),
        (said(&format!("{{{}}}", entry("a", 4, 8))), "tensor a begins at byte 4 of the data, expected 0"),
        (
            two(&entry("b", 0, 8)),
            "tensor b begins at byte 0 of the data, expected 4: neither gap nor overlap",
        ),
        (two(&entry("b", 4, 12)), "tensor b ends at byte 12 of the data, of which there are 8"),
        (shaped("3", 8), "tensor a of type F32 and shape [3] cannot lie at bytes 0 to 8 of the data"),
        (shaped("4611686018427387904,4", 8), "tensor a of type F32 and shape"),
        (shaped("2", u64::MAX), "cannot lie at bytes 0 to 18446744073709551615"),
        (
            said(
                r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
            ),
            "tensor a",
        ),
        (said(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#), "tensor a begins at byte 8"),
        (
            said(r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#),
            "its header does not describe tensors",
        ),
        (
            said(r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#),
            "its header does not describe tensors",
        ),
        (said(&format!("{{{}}}", entry("a\\nb", 0, 8))), "is no name of a tensor"),
        (said("{"), "its header does not describe tensors"),
        (said(&"[".repeat(100_000)), "its header does not describe tensors"),
        (
            said(&format!(r#"{{"__metadata__":{}}}"#, "[".repeat(100_000))),
            "its header does not describe tensors",
        ),
    ];
    for (bytes, expected) in lies {
        let message = error(&[(SINGLE, bytes)]);
        assert!(message.contains("model.safetensors: not a whole safetensors file: "), "{message}");
        assert!(message.contains(expected), "{message}\n{expected}");
    }
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let header = format!("{{{},{}}}", entry("a", 0, 8), entry("b", 8, 12));
    let whole = file(&header, &[7; 12]);
    for place in 0..whole.len() {
        for value in [0, 1, b'"', b'9', b'{', 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[place] = value;
            let _ = entries(&damaged);
            let _ = entries(&damaged[..place]);
        }
    }
}

#[test]
fn pieces_are_the_whole_tensor() {
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|i| (i % 251) as u8).collect();
    let header = format!("{{{},{}}}", entry("a", 0, 4), entry("b", 4, bytes.len()));
    let folder = folder(&[(SINGLE, file(&header, &bytes))]);
    let weights = WeightFiles::open(folder.path()).unwrap();
    let view = weights.tensor("b").unwrap();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let all = view.each_piece(|piece| {
        pieces.push(piece.to_vec());
        Ok::<bool, io::Error>(true)
    });
    assert!(all.unwrap());
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1 << 20, 1 << 20, 402_844]);
    assert!(pieces.concat() == bytes[4..]);
    assert!(!view.each_piece(|_| Ok::<bool, io::Error>(false)).unwrap());
}

#[test]
fn a_file_cut_short_while_it_is_read_is_an_error() {
    let folder = folder(&[(SINGLE, file(&format!("{{{}}}", entry("a", 0, 8)), &[7; 8]))]);
    let weights = WeightFiles::open(folder.path()).unwrap();
    File::options().write(true).open(folder.path().join(SINGLE)).unwrap().set_len(64).unwrap();
    let cut = weights.tensor("a").unwrap().each_piece(|_| Ok::<bool, io::Error>(true)).unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_shard_may_be_a_link_to_a_file_elsewhere() {
    let elsewhere = folder(&[("blob", file(&format!("{{{}}}", entry("a", 0, 4)), &[1; 4]))]);
    let folder = folder(&[(INDEX, br#"{"weight_map":{"a":"x.safetensors"}}"#.to_vec())]);
    std::os::unix::fs::symlink(elsewhere.path().join("blob"), folder.path().join("x.safetensors")).unwrap();
    assert_eq!(WeightFiles::open(folder.path()).unwrap().tensor("a").unwrap().bytes, [1; 4]);
}

#[test]
fn an_index_that_is_none_says_so() {
    let deep = format!(r#"{{"weight_map":{}}}"#, "[".repeat(100_000));
    for (index, expected) in [
        (deep.as_str(), "no weight index"),
        ("", "no weight index"),
        ("{\"weight_map\":{\"a\":7}}", "no weight index"),
        ("{\"weight_map\":{}}", "weight_map lists no tensor"),
    ] {
        let message = error(&[(INDEX, index.as_bytes().to_vec())]);
        assert!(message.contains(&format!("model.safetensors.index.json: {expected}")), "{message}");
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
