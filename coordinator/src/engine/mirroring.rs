//! `recovery.redundancy: neighbour`: what a rank owns of the optimizer's state also lies in the memory of another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::resume::At;
use super::{Engine, Rank};

impl Engine {
    /// How many places on in the world what a rank owns also lies; 0: nowhere.
    pub(super) fn mirror(&self) -> u32 {
        let cut = self.spec.stages.iter().any(|stage| stage.sharded);
        if self.spec.redundant && cut { places_on(&self.nodes()) } else { 0 }
    }

    /// The members that lack the state at `at`, each with who gives it what it owned: all others hold it, and those are
    /// in `mirrored`. None where somebody would have to give what he lost himself.
    pub(super) fn mirrors(&self, at: At, mirrored: &BTreeSet<Rank>) -> Option<BTreeMap<Rank, Rank>> {
        let ranks: Vec<Rank> = self.world.iter().copied().collect();
        let by = self.mirror() as usize;
        if by == 0 {
            return None;
        }
        let mut mirrors = BTreeMap::new();
        for (place, lost) in ranks.iter().enumerate().filter(|(_, rank)| !self.is_source(**rank, at)) {
            let gives = ranks[(place + by) % ranks.len()];
            if !self.is_source(gives, at) || !mirrored.contains(&gives) {
                return None;
            }
            mirrors.insert(*lost, gives);
        }
        Some(mirrors).filter(|mirrors| !mirrors.is_empty())
    }
}

/// The fewest places on that bring as many ranks as can be to another node; 0 in a world of one. `nodes` are those of
/// the ranks in order.
fn places_on(nodes: &[u32]) -> u32 {
    let world = nodes.len();
    let elsewhere = |by: &usize| (0..world).filter(|i| nodes[*i] != nodes[(i + by) % world]).count();
    (1..world).max_by_key(|by| (elsewhere(by), Reverse(*by))).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::places_on;

    #[test]
    fn a_mirror_is_on_another_host_where_there_is_one_and_as_near_as_can_be() {
        assert_eq!(places_on(&[]), 0);
        assert_eq!(places_on(&[7]), 0, "alone");
        assert_eq!(places_on(&[0, 0, 0]), 1, "one host");
        assert_eq!(places_on(&[0, 1, 2]), 1);
        assert_eq!(places_on(&[0, 0, 1, 1]), 2);
        assert_eq!(places_on(&[0, 1, 0, 1]), 1);
        assert_eq!(places_on(&[0, 0, 0, 1, 1, 1]), 3);
        assert_eq!(places_on(&[0, 0, 1, 2]), 2, "all four elsewhere");
    }
}
