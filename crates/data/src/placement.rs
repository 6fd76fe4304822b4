//! Which rank does which work.

/// Cost of a sample's forward pass: `8 · tokens + patches`.
///
/// A token passes the language model's weights, a patch the vision tower's: in the published models about 11
/// (7B) and 5 (3B) times as many. `tokens` counts prompt and completions, `patches` all pictures. The formula
/// is journaled with the placement that it gave; timings never enter.
#[must_use]
pub fn cost(tokens: u64, patches: u64) -> u64 {
    tokens.saturating_mul(8).saturating_add(patches)
}

/// Spreads items over ranks so that the ranks' costs are alike: the dearest item first, each to the rank with
/// the least so far, ties to the lower index (longest processing time first; the dearest rank carries at most
/// 4/3 of the best possible). Returns, per rank, the items' indices in ascending order; ranks may hold uneven
/// numbers, also none. No ranks: no places.
#[must_use]
pub fn place(costs: &[u64], ranks: usize) -> Vec<Vec<usize>> {
    if ranks == 0 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&item| (std::cmp::Reverse(costs[item]), item));
    let mut places: Vec<(u128, Vec<usize>)> = vec![(0, Vec::new()); ranks];
    for item in order {
        // Items of no cost still take turns: the count breaks ties before the rank does.
        let lightest = places.iter_mut().min_by_key(|(load, items)| (*load, items.len()));
        if let Some((load, items)) = lightest {
            *load += u128::from(costs[item]);
            items.push(item);
        }
    }
    places
        .into_iter()
        .map(|(_, mut items)| {
            items.sort_unstable();
            items
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dearest_go_first_and_ties_go_to_the_lower_rank() {
        assert_eq!(place(&[1, 9, 2, 8, 3], 2), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(place(&[5, 5, 5, 5], 2), [vec![0, 2], vec![1, 3]]);
        assert_eq!(place(&[0, 0, 0], 2), [vec![0, 2], vec![1]]);
        assert_eq!(place(&[7], 3), [vec![0], vec![], vec![]]);
        assert!(place(&[1, 2], 0).is_empty());
    }

    #[test]
    fn a_token_costs_eight_patches() {
        assert_eq!(cost(100, 256), 1056);
        assert_eq!(cost(u64::MAX, 1), u64::MAX);
    }

    proptest! {
        #[test]
        fn every_item_has_one_place_and_no_rank_carries_more_than_the_even_share_and_one_item(
            costs in prop::collection::vec(0u64..10_000, 0..60), ranks in 1usize..9,
        ) {
            let places = place(&costs, ranks);
            prop_assert_eq!(places.len(), ranks);
            let mut all: Vec<usize> = places.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..costs.len()).collect::<Vec<_>>());
            let load = |items: &Vec<usize>| items.iter().map(|&item| costs[item]).sum::<u64>();
            let most = places.iter().map(load).max().unwrap_or(0);
            let even = costs.iter().sum::<u64>() as f64 / ranks as f64;
            // The last item on the dearest rank went where the load was at most the even share.
            let dearest = costs.iter().copied().max().unwrap_or(0) as f64;
            prop_assert!(most as f64 <= even + dearest);
        }
    }
}
