//! Ranks on several nodes: the world, and within it the ranks that share a node and those that share a place.

use std::collections::BTreeMap;
use std::time::Duration;

use tch::Tensor;

use crate::{Aborter, Group, LocalGroup, ReduceOp, Result, Sent, Work};

/// A world formed over nodes.
///
/// Every node's ranks, in order, are cut into sets of equal size: as many as divides every node's number of ranks.
/// A rank's `within` is its set, its `across` the ranks that have its place in the other sets.
#[derive(Debug)]
pub struct Nodes<G> {
    world: G,
    within: G,
    across: G,
}

/// The two groups of a rank that [`Group::parts`] gives.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Ranks on this one's node.
    pub within: &'a dyn Group,
    /// Ranks of the same place on all nodes.
    pub across: &'a dyn Group,
}

/// Where a rank sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    /// Number of its set.
    set: usize,
    sets: usize,
    /// Its place in the set.
    place: usize,
    places: usize,
}

/// Every rank's seat, given every rank's node.
fn seats(nodes: &[u32]) -> Vec<Seat> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for node in nodes {
        *sizes.entry(*node).or_default() += 1;
    }
    let places = sizes.values().copied().fold(0, greatest_common_divisor).max(1);
    let mut first_set = BTreeMap::new();
    let mut sets = 0;
    for (node, size) in &sizes {
        first_set.insert(*node, sets);
        sets += size / places;
    }
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    let seat = |node: &u32| {
        let number = seen.entry(*node).or_default();
        let seat = Seat { set: first_set[node] + *number / places, sets, place: *number % places, places };
        *number += 1;
        seat
    };
    nodes.iter().map(seat).collect()
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

impl<G: Group> Nodes<G> {
    /// Forms the three groups of `rank`; `nodes` names every rank's node, in the order of ranks. `form` is given
    /// what tells a group from the others of the epoch, the rank in it, and its size.
    ///
    /// # Errors
    /// What `form` says; `Mismatch` where `rank` is not below the number of ranks.
    pub(crate) fn form(
        rank: usize,
        nodes: &[u32],
        form: impl Fn(&str, usize, usize) -> Result<G>,
    ) -> Result<Self> {
        let world = form("", rank, nodes.len())?;
        let all = seats(nodes);
        let Seat { set, sets, place, places } = all[rank];
        let within = form(&format!("/within/{set}"), place, places)?;
        let across = form(&format!("/across/{place}"), set, sets)?;
        Ok(Self { world, within, across })
    }
}

impl Nodes<LocalGroup> {
    /// The ranks of a new in-process world, in order; `nodes` names every rank's node.
    #[must_use]
    pub fn local(nodes: &[u32]) -> Vec<Self> {
        let seats = seats(nodes);
        let (sets, places) = seats.first().map_or((0, 0), |seat| (seat.sets, seat.places));
        let worlds = |count: usize, size: usize| -> Vec<Vec<Option<LocalGroup>>> {
            (0..count).map(|_| LocalGroup::world(size).into_iter().map(Some).collect()).collect()
        };
        let (mut within, mut across) = (worlds(sets, places), worlds(places, sets));
        let world = LocalGroup::world(nodes.len()).into_iter().zip(&seats);
        let rank = |(world, seat): (LocalGroup, &Seat)| {
            let within = within[seat.set][seat.place].take()?;
            let across = across[seat.place][seat.set].take()?;
            Some(Self { world, within, across })
        };
        world.filter_map(rank).collect()
    }
}

impl<G: Group> Group for Nodes<G> {
    fn rank(&self) -> usize {
        self.world.rank()
    }

    fn world_size(&self) -> usize {
        self.world.world_size()
    }

    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        self.world.all_reduce(tensor, op)
    }

    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> Result<Work> {
        self.world.all_gather_base(output, input)
    }

    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> Result<Work> {
        self.world.reduce_scatter_base(output, input, op)
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work> {
        self.world.broadcast(tensor, root)
    }

    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> Result<Work> {
        self.world.shift(output, input, by)
    }

    fn barrier(&self) -> Result<Work> {
        self.world.barrier()
    }

    fn waited(&self) -> Duration {
        self.world.waited() + self.within.waited() + self.across.waited()
    }

    fn sent(&self) -> Sent {
        self.world.sent() + self.within.sent() + self.across.sent()
    }

    fn wire_bytes(&self) -> Option<u64> {
        let all = [&self.world, &self.within, &self.across].into_iter();
        all.map(|group| if group.world_size() == 1 { Some(0) } else { group.wire_bytes() }).sum()
    }

    fn parts(&self) -> Option<Parts<'_>> {
        Some(Parts { within: &self.within, across: &self.across })
    }

    fn aborter(&self) -> Aborter {
        let all = [self.world.aborter(), self.within.aborter(), self.across.aborter()];
        Aborter::new(move || all.iter().for_each(Aborter::abort))
    }

    fn shutdown(&self) {
        self.world.shutdown();
        self.within.shutdown();
        self.across.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(nodes: &[u32]) -> Vec<(usize, usize)> {
        seats(nodes).iter().map(|seat| (seat.set, seat.place)).collect()
    }

    #[test]
    fn a_node_is_a_set_where_all_nodes_are_alike() {
        assert_eq!(places(&[0, 0, 1, 1]), [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(places(&[7, 3, 7, 3]), [(1, 0), (0, 0), (1, 1), (0, 1)]);
        assert_eq!(places(&[5, 5, 5]), [(0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn uneven_nodes_are_cut_into_sets_that_fit_all_of_them() {
        assert_eq!(places(&[0, 0, 0, 0, 1, 1]), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
        assert_eq!(places(&[0, 0, 1]), [(0, 0), (1, 0), (2, 0)]);
    }

    #[test]
    fn the_groups_of_a_rank_are_its_set_and_its_place_in_the_others() {
        for (rank, group) in Nodes::local(&[0, 0, 1, 1, 2, 2]).iter().enumerate() {
            let parts = group.parts().expect("formed over nodes");
            assert_eq!((group.rank(), group.world_size()), (rank, 6));
            assert_eq!((parts.within.rank(), parts.within.world_size()), (rank % 2, 2));
            assert_eq!((parts.across.rank(), parts.across.world_size()), (rank / 2, 3));
        }
    }
}
