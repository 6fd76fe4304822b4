//! Digests of files and of weights.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// SHA-256 of a file's bytes, in lower-case hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// SHA-256 of one tensor: its name, shape and little-endian f32 values.
///
/// The type that it is stored in does not enter, so a weight has one digest however it is held.
#[must_use]
pub fn tensor_digest(name: &str, shape: &[i64], f32_le: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update((name.len() as u64).to_le_bytes());
    hasher.update(name);
    hasher.update((shape.len() as u64).to_le_bytes());
    for side in shape {
        hasher.update(side.to_le_bytes());
    }
    hasher.update(f32_le);
    hasher.finalize().into()
}

/// The digest of weights that several ranks own parts of, from the parts' digests in order.
#[must_use]
pub fn parts_digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

/// The digest of a set of weights from its tensors' digests, given in the order of their names.
///
/// A digest of digests: a rank that holds some of the tensors hashes those alone, and frozen ones are
/// hashed once.
#[must_use]
pub fn weights_digest<'a>(tensors: impl IntoIterator<Item = &'a [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    for tensor in tensors {
        hasher.update(tensor);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_digest_is_what_sha256sum_says() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), b"abc").expect("writable");
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(file.path()).expect("readable"), expected);
    }

    #[test]
    fn name_shape_and_values_each_enter_a_tensors_digest() {
        let base = tensor_digest("a", &[2, 3], &[0; 24]);
        assert_ne!(base, tensor_digest("b", &[2, 3], &[0; 24]));
        assert_ne!(base, tensor_digest("a", &[3, 2], &[0; 24]));
        assert_ne!(base, tensor_digest("a", &[2, 3], &[1; 24]));
    }
}
