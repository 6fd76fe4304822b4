//! A tensor's bytes in pieces, read and not mapped: mapped pages would stand in memory beside their copies.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A whole number of elements of any type; small, so that the holes that copies leave behind stay small.
const BYTES: usize = 1 << 20;

/// Hands the bytes of `file` at `range` to `each`, one piece after the other, while it says so; whether all were.
pub(crate) fn each_piece<E: From<io::Error>>(
    file: &File,
    range: Range<usize>,
    mut each: impl FnMut(&[u8]) -> Result<bool, E>,
) -> Result<bool, E> {
    let mut buffer = vec![0; BYTES.min(range.len())];
    let mut at = range.start;
    while at < range.end {
        let count = BYTES.min(range.end - at);
        let piece = &mut buffer[..count];
        file.read_exact_at(piece, at as u64)?;
        at += count;
        if !each(piece)? {
            return Ok(false);
        }
    }
    Ok(true)
}
