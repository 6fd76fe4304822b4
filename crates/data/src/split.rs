//! Train, validation and test by reference: no original is in two of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::draws::Draws;

/// A part of a data set, and the recipe's list of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What a model learns from.
    Train,
    /// What chooses checkpoints and settings.
    Validation,
    /// What is looked at at the end.
    Test,
}

impl Part {
    /// All parts, in the order of `split`'s shares.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// As recipes name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// The part of every reference: they are shuffled by `seed` and shared out so that validation and test are as near
/// as can be to their shares, and none with a share stays empty while there are three references or more; the rest
/// is for training. Depends on the set of references, not on their order or number of pictures.
#[must_use]
pub fn split_references(
    references: &BTreeSet<String>,
    shares: [u32; 3],
    seed: u64,
) -> BTreeMap<String, Part> {
    let mut order: Vec<&String> = references.iter().collect();
    Draws::new("split", &[seed], "").shuffle(&mut order);
    let total: u64 = shares.iter().map(|share| u64::from(*share)).sum::<u64>().max(1);
    let wanted = |part: Part| {
        let share = u64::from(shares[part as usize]);
        let nearest = (order.len() as u64 * share * 2 + total) / (total * 2);
        nearest.max(u64::from(share > 0 && order.len() >= 3)) as usize
    };
    let (validation, test) = (wanted(Part::Validation), wanted(Part::Test));
    let part = |place: usize| match place {
        _ if place < validation => Part::Validation,
        _ if place < validation + test => Part::Test,
        _ => Part::Train,
    };
    order.into_iter().enumerate().map(|(place, name)| (name.clone(), part(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> BTreeSet<String> {
        (0..count).map(|i| format!("i{i:03}")).collect()
    }

    #[test]
    fn kadids_81_originals_fall_apart_as_in_the_published_run() {
        let parts = split_references(&names(81), [60, 20, 20], 0);
        let count = |part| parts.values().filter(|p| **p == part).count();
        // 49 × 125 pictures are the 6,125 of docs/method.md section 7.
        assert_eq!(Part::ALL.map(count), [49, 16, 16]);
    }

    #[test]
    fn the_split_depends_on_the_seed_alone_and_no_part_with_a_share_is_empty() {
        assert_eq!(
            split_references(&names(30), [60, 20, 20], 1),
            split_references(&names(30), [60, 20, 20], 1)
        );
        assert_ne!(
            split_references(&names(30), [60, 20, 20], 1),
            split_references(&names(30), [60, 20, 20], 2)
        );
        let few = split_references(&names(3), [98, 1, 1], 0);
        assert_eq!(few.values().copied().collect::<BTreeSet<_>>().len(), 3);
        assert!(split_references(&names(5), [1, 0, 0], 0).values().all(|part| *part == Part::Train));
    }
}
