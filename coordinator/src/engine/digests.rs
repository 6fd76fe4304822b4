//! Whether ranks hold the same weights.

use std::collections::BTreeMap;

use proto::v1::Part;

use super::Rank;

/// A rank's digest over the part of the weights that it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartDigest {
    part: (u32, u32),
    digest: String,
}

impl PartDigest {
    pub(super) fn new(part: Option<Part>, digest: String) -> Self {
        Self { part: part.map_or((0, 1), |part| (part.index, part.of)), digest }
    }
}

/// The digest over all weights, from ranks that agree where they own the same part; or who reports what.
pub(super) fn agreed(digests: &BTreeMap<Rank, PartDigest>) -> Result<String, String> {
    let mut parts: BTreeMap<(u32, u32), BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for (rank, PartDigest { part, digest }) in digests {
        parts.entry(*part).or_default().entry(digest).or_default().push(rank.to_string());
    }
    if let Some(groups) = parts.values().find(|groups| groups.len() > 1) {
        let groups = groups.iter().map(|(digest, ranks)| format!("rank {} has {digest}", ranks.join(", ")));
        return Err(groups.collect::<Vec<_>>().join("; "));
    }
    let whole = parts.keys().next().map_or(0, |(_, of)| *of);
    if !parts.keys().copied().eq((0..whole).map(|index| (index, whole))) {
        let found: Vec<_> = parts.keys().map(|(index, of)| format!("{} of {of}", index + 1)).collect();
        return Err(format!("they own the parts {}, expected all of one cut", found.join(", ")));
    }
    let mut agreed = parts.values().flat_map(BTreeMap::keys).copied();
    match (agreed.next(), whole) {
        (None, _) => Ok(String::new()),
        (Some(only), 1) => Ok(only.to_owned()),
        (Some(first), _) => Ok(checkpoint::parts_digest([first].into_iter().chain(agreed))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(u32, u32, &str)]) -> Result<String, String> {
        let digest = |&(index, of, digest): &(u32, u32, &str)| {
            PartDigest::new(Some(Part { index, of }), digest.to_owned())
        };
        agreed(&parts.iter().map(digest).zip(0..).map(|(digest, rank)| (rank, digest)).collect())
    }

    #[test]
    fn parts_may_differ_and_copies_of_one_part_may_not() {
        assert_eq!(of(&[(0, 1, "a"), (0, 1, "a")]), Ok("a".to_owned()));
        let whole = of(&[(0, 2, "a"), (1, 2, "b")]).expect("two parts");
        assert_eq!(of(&[(1, 2, "b"), (0, 2, "a"), (0, 2, "a")]), Ok(whole.clone()));
        assert_ne!(of(&[(0, 2, "b"), (1, 2, "a")]), Ok(whole));
        let said = of(&[(0, 2, "a"), (1, 2, "b"), (1, 2, "c")]).expect_err("copies differ");
        assert_eq!(said, "rank 1 has b; rank 2 has c");
    }

    #[test]
    fn a_part_that_nobody_owns_is_no_agreement() {
        let said = of(&[(0, 3, "a"), (2, 3, "b")]).expect_err("a part is missing");
        assert_eq!(said, "they own the parts 1 of 3, 3 of 3, expected all of one cut");
    }
}
