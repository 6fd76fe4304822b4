//! Which batches are whose, where several processes judge.

use std::fmt;
use std::str::FromStr;

/// Every `of`-th batch, from `index` on: one process's part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Counted from 0.
    pub index: usize,
    /// How many shares there are.
    pub of: usize,
}

impl Share {
    /// Whether a batch is in it.
    #[must_use]
    pub fn has(self, batch: usize) -> bool {
        batch % self.of == self.index
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        parts
            .filter(|(index, of)| index < of)
            .map(|(index, of)| Self { index, of })
            .ok_or_else(|| "expected I/N with I below N, such as 0/2 and 1/2".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn shares_take_every_batch_once() {
        let shares: Vec<Share> = (0..3).map(|i| format!("{i}/3").parse().expect("a share")).collect();
        for batch in 0..20 {
            assert_eq!(shares.iter().filter(|share| share.has(batch)).count(), 1, "{batch}");
        }
        for wrong in ["3/3", "0/0", "-1/2", "1", "a/b", ""] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
