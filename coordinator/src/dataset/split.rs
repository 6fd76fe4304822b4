//! Every photograph in exactly one part, and which one depends on the seed alone.

use serde::Serialize;
use vision::Draws;

use crate::failure::Failure;

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// What a model learns from.
    Train,
    /// What chooses checkpoints and settings.
    Validation,
    /// What is looked at once, at the end.
    Test,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The file name's stem, too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    pub(super) fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|part| part.name() == name);
        known.ok_or_else(|| format!("\"{name}\" is no split, expected train, validation or test"))
    }
}

/// The shares of train, validation and test, in the units they were given in.
pub(super) type Shares = [u32; 3];

/// `60/20/20` and the like: three whole numbers, train, validation, test.
///
/// # Errors
/// If it is not three numbers of which the first is above 0.
pub(super) fn three(what: &str, text: &str) -> Result<[u32; 3], Failure> {
    let numbers: Result<Vec<u32>, _> = text.split('/').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[train, validation, test])
            if train > 0 && [train, validation, test].iter().all(|&n| n <= 1_000_000) =>
        {
            Ok([train, validation, test])
        }
        _ => Err(Failure::input(format!("{what} {text}: expected TRAIN/VALIDATION/TEST, as in 60/20/20"))),
    }
}

/// The stream's name, so that no other draw from the same seed is the same.
const STREAM: [u64; 3] = [0x7370_6c69, 0, 0];

/// A part for each photograph. Those with a wish get it; the others are shuffled by `seed` and shared out so that each
/// part is as near as can be to its share of all, and none with a share stays empty while there are enough.
pub(super) fn assign(wishes: &[Option<Part>], shares: Shares, seed: u64) -> Vec<Part> {
    let mut free: Vec<usize> = (0..wishes.len()).filter(|&i| wishes[i].is_none()).collect();
    Draws::new(seed, STREAM).shuffle(&mut free);
    let mut parts: Vec<Part> = wishes.iter().map(|wish| wish.unwrap_or(Part::Train)).collect();
    let mut free = free.into_iter();
    for part in [Part::Validation, Part::Test] {
        let wished = wishes.iter().filter(|wish| **wish == Some(part)).count();
        let wanted = wanted(wishes.len(), shares, part).saturating_sub(wished);
        free.by_ref().take(wanted).for_each(|i| parts[i] = part);
    }
    parts
}

fn wanted(photographs: usize, shares: Shares, part: Part) -> usize {
    let total: u64 = shares.iter().map(|&share| u64::from(share)).sum();
    let share = u64::from(shares[part as usize]);
    let nearest = (photographs as u64 * share * 2 + total) / (total * 2);
    let least = u64::from(share > 0 && photographs >= 3);
    nearest.max(least) as usize
}

#[cfg(test)]
mod tests {
    use super::{Part, assign, three};

    fn count(parts: &[Part], part: Part) -> usize {
        parts.iter().filter(|p| **p == part).count()
    }

    #[test]
    fn shares_are_met_to_the_nearest_photograph_and_no_part_is_empty() {
        for (photographs, expected) in [(10, [6, 2, 2]), (33, [19, 7, 7]), (3, [1, 1, 1]), (2, [2, 0, 0])] {
            let parts = assign(&vec![None; photographs], [60, 20, 20], 4);
            assert_eq!(Part::ALL.map(|part| count(&parts, part)), expected, "{photographs} photographs");
        }
        assert_eq!(count(&assign(&[None; 5], [1, 0, 0], 4), Part::Train), 5);
    }

    #[test]
    fn the_split_depends_on_the_seed_alone() {
        assert_eq!(assign(&[None; 30], [60, 20, 20], 1), assign(&[None; 30], [60, 20, 20], 1));
        assert_ne!(assign(&[None; 30], [60, 20, 20], 1), assign(&[None; 30], [60, 20, 20], 2));
    }

    #[test]
    fn wishes_are_kept_and_counted() {
        let mut wishes = vec![None; 10];
        wishes[3] = Some(Part::Test);
        wishes[4] = Some(Part::Test);
        wishes[5] = Some(Part::Test);
        let parts = assign(&wishes, [60, 20, 20], 9);
        assert_eq!((count(&parts, Part::Test), count(&parts, Part::Validation)), (3, 2));
        assert_eq!(parts[3..6], [Part::Test; 3]);
    }

    #[test]
    fn anything_but_three_numbers_is_refused() {
        assert_eq!(three("--split", "60/20/20").expect("three"), [60, 20, 20]);
        for bad in ["60", "60/20", "60/20/20/0", "a/b/c", "0/1/1", "60/-20/20", ""] {
            assert_eq!(three("--split", bad).expect_err(bad).exit_code, 2);
        }
    }
}
