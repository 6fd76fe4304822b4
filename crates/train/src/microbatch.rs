//! A rank's share of a step, cut into micro-batches.

use std::ops::Range;

/// Cuts items of these `tokens` into runs of at most `budget` tokens, in order; an item above the budget is a
/// run of its own. No items, no runs.
pub(crate) fn cut(tokens: &[usize], budget: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (i, &tokens) in tokens.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if filled + tokens <= budget => {
                run.end = i + 1;
                filled += tokens;
            }
            _ => {
                runs.push(i..i + 1);
                filled = tokens;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn runs_hold_every_item_once_and_in_order_within_the_budget() {
        let tokens = [3, 4, 5, 1, 1, 9, 2];
        let runs = cut(&tokens, 8);
        assert_eq!(runs, [0..2, 2..5, 5..6, 6..7]);
        assert!(runs.iter().all(|r| r.len() == 1 || tokens[r.clone()].iter().sum::<usize>() <= 8));
    }

    #[test]
    fn a_rank_without_items_has_no_runs() {
        assert!(cut(&[], 8).is_empty());
    }

    #[test]
    fn everything_within_the_budget_is_one_run() {
        assert_eq!(cut(&[4, 4], 8).len(), 1);
    }
}
