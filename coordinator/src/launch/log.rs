//! The end of a worker's log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the end is looked at, bytes.
const TAIL: u64 = 4096;

/// The last lines of a log that are not empty, at most `count`, without colours and control characters. A log that cannot
/// be read has none.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.take(TAIL).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// A line without escape sequences (ESC, `[`, up to a letter) and control characters.
fn plain(line: &str) -> String {
    let mut rest = line.chars().peekable();
    let mut plain = String::with_capacity(line.len());
    while let Some(c) = rest.next() {
        if c == '\x1b' && rest.next_if_eq(&'[').is_some() {
            while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_log_of_anything_gives_its_last_lines_only() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let mut bytes = vec![0xff_u8; 1 << 20];
        bytes.extend(b"\none\n\ntwo\x1b[0m\nthree\n\n");
        std::fs::write(file.path(), bytes).expect("writable");
        assert_eq!(last_lines(file.path(), 2), ["two", "three"]);
    }

    #[test]
    fn a_log_that_is_not_there_has_no_lines() {
        assert!(last_lines(Path::new("/nonexistent/log"), 5).is_empty());
    }
}
