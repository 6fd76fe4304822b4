//! Which patches attend to which: windows within a picture, or the whole picture.
//!
//! Merged tokens are ordered window by window, windows of equal size together, so that windowed blocks attend in a
//! few batched calls without moving anything; blocks with full attention move to picture order and back.

use vision::Grid;

/// Consecutive sequences of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many.
    pub(crate) count: i64,
    /// Of each, in merged tokens.
    pub(crate) length: i64,
}

/// An order of the merged tokens of a batch, cut into sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// For each place, the token (counted picture after picture) that lies there.
    pub(crate) tokens: Vec<i64>,
    /// The sequences, longest first.
    pub(crate) runs: Vec<Run>,
}

impl Order {
    fn new(mut sequences: Vec<Vec<i64>>) -> Self {
        sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.len()));
        let runs = sequences
            .chunk_by(|a, b| a.len() == b.len())
            .map(|equal| Run { count: equal.len() as i64, length: equal[0].len() as i64 })
            .collect();
        Self { tokens: sequences.concat(), runs }
    }

    /// For each token, its place.
    pub(crate) fn places(&self) -> Vec<i64> {
        let mut places = vec![0; self.tokens.len()];
        for (place, &token) in self.tokens.iter().enumerate() {
            places[token as usize] = place as i64;
        }
        places
    }
}

/// Windows of at most `side` × `side` tokens, row by row within each frame of each picture (transformers'
/// `get_vision_window_index`).
pub(crate) fn windows(grids: &[Grid], merge: usize, side: usize) -> Order {
    let mut sequences = Vec::new();
    each_frame(grids, merge, |first, rows, columns| {
        for top in (0..rows).step_by(side) {
            for left in (0..columns).step_by(side) {
                let inside = (top..rows.min(top + side)).flat_map(|y| {
                    (left..columns.min(left + side)).map(move |x| (first + y * columns + x) as i64)
                });
                sequences.push(inside.collect());
            }
        }
    });
    Order::new(sequences)
}

/// Whole frames.
pub(crate) fn frames(grids: &[Grid], merge: usize) -> Order {
    let mut sequences = Vec::new();
    each_frame(grids, merge, |first, rows, columns| {
        sequences.push((first..first + rows * columns).map(|token| token as i64).collect());
    });
    Order::new(sequences)
}

/// Row and column of every patch, in the order in which the processor lays them out, `[patches]` each.
pub(crate) fn patch_places(grids: &[Grid], merge: usize) -> Vec<[i64; 2]> {
    let mut places = Vec::new();
    each_frame(grids, merge, |_, rows, columns| {
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            for (inner_y, inner_x) in (0..merge).flat_map(|y| (0..merge).map(move |x| (y, x))) {
                places.push([(y * merge + inner_y) as i64, (x * merge + inner_x) as i64]);
            }
        }
    });
    places
}

/// Calls with each frame's first token, rows and columns of tokens.
fn each_frame(grids: &[Grid], merge: usize, mut with: impl FnMut(usize, usize, usize)) {
    let mut first = 0;
    for grid in grids {
        let (rows, columns) = (grid.h / merge, grid.w / merge);
        for _ in 0..grid.t {
            with(first, rows, columns);
            first += rows * columns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRIDS: [Grid; 2] = [Grid { t: 1, h: 4, w: 6 }, Grid { t: 2, h: 4, w: 4 }];

    #[test]
    fn every_token_lies_in_exactly_one_window() {
        let order = windows(&GRIDS, 2, 2);
        let mut tokens = order.tokens.clone();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..14).collect::<Vec<i64>>());
    }

    #[test]
    fn windows_of_equal_size_lie_together_and_pictures_do_not_mix() {
        let order = windows(&GRIDS, 2, 2);
        // 2 × 3 tokens: a whole window and a narrow one; then two frames of 2 × 2.
        assert_eq!(order.runs, [Run { count: 3, length: 4 }, Run { count: 1, length: 2 }]);
        assert_eq!(order.tokens, [0, 1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 2, 5]);
        assert_eq!(order.places()[2], 12);
    }

    #[test]
    fn frames_of_a_video_do_not_see_each_other() {
        let order = frames(&GRIDS, 2);
        assert_eq!(order.runs, [Run { count: 1, length: 6 }, Run { count: 2, length: 4 }]);
    }

    #[test]
    fn patches_of_one_token_lie_together() {
        let places = patch_places(&GRIDS[..1], 2);
        assert_eq!(places[..5], [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]);
        assert_eq!(places.len(), 24);
    }
}
