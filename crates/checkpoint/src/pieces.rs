//! A mapped tensor's bytes in pieces that do not stay in memory.

use std::ops::Range;

use memmap2::Mmap;

/// A whole number of elements of any type.
const BYTES: usize = 16 << 20;

/// See [`crate::weights::View::pieces`].
#[derive(Debug)]
pub struct Pieces<'a> {
    map: &'a Mmap,
    rest: Range<usize>,
    /// What was handed out last.
    used: Range<usize>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(map: &'a Mmap, bytes: Range<usize>) -> Self {
        Self { map, used: bytes.start..bytes.start, rest: bytes }
    }

    /// Gives back the pages of the last piece.
    fn give_back(&mut self) {
        let used = std::mem::take(&mut self.used);
        #[cfg(unix)]
        {
            use memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the pages are clean ones of a file mapped read-only: whoever looks again has them read again,
            // with the same bytes, for weight files are never changed in place. A refusal costs memory only.
            let _ = unsafe { self.map.unchecked_advise_range(DontNeed, used.start, used.len()) };
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.give_back();
        let end = self.rest.end.min(self.rest.start + BYTES);
        let piece = self.rest.start..end;
        self.rest.start = end;
        self.used = piece.clone();
        (!piece.is_empty()).then(|| &self.map[piece])
    }
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}
