//! The products of attention, for up to [`TOGETHER`] queries at a time, in f32 whatever the cache holds.
//!
//! Keys lie in blocks of a lane, transposed, `[blocks, head, LANES]`, so that scores of neighbouring keys are computed
//! side by side and a block is read from one end to the other; values lie `[keys, head]`, so that outputs of
//! neighbouring dimensions are.

use super::element::Element;
use super::lanes::{LANES, fma};

/// Queries whose partial sums fit the registers.
pub(super) const TOGETHER: usize = 4;
/// Lanes that each query works on at once.
const WIDE: usize = 2;

/// Keys rounded up to whole lanes.
pub(super) fn padded(keys: usize) -> usize {
    keys.next_multiple_of(LANES)
}

/// Calls a function of a constant number of queries for each group of at most [`TOGETHER`].
macro_rules! in_groups {
    ($queries:expr, $first:ident, $function:ident::<$element:ident, $fma:ident>($($argument:expr),*)) => {{
        let mut $first = 0;
        while $first < $queries {
            match $queries - $first {
                1 => $function::<$element, $fma, 1>($($argument),*),
                2 => $function::<$element, $fma, 2>($($argument),*),
                3 => $function::<$element, $fma, 3>($($argument),*),
                _ => $function::<$element, $fma, TOGETHER>($($argument),*),
            }
            $first += TOGETHER;
        }
    }};
}

/// Scores of `queries` `[n, head]` against the first `count` keys, in `scores` `[n, width]` from column `at` on; up
/// to the next whole lane they become −∞.
#[inline(always)]
pub(super) fn score<T: Element, const FMA: bool>(
    queries: &[f32],
    head: usize,
    keys: &[T],
    count: usize,
    scores: &mut [f32],
    width: usize,
    at: usize,
) {
    let n = queries.len() / head;
    in_groups!(
        n,
        first,
        score_some::<T, FMA>(
            &queries[first * head..],
            head,
            keys,
            count,
            &mut scores[first * width..],
            width,
            at
        )
    );
    for row in scores.chunks_exact_mut(width) {
        row[at + count..at + padded(count)].fill(f32::NEG_INFINITY);
    }
}

#[inline(always)]
fn score_some<T: Element, const FMA: bool, const Q: usize>(
    queries: &[f32],
    head: usize,
    keys: &[T],
    count: usize,
    scores: &mut [f32],
    width: usize,
    at: usize,
) {
    let mut from = 0;
    while from < count {
        let lanes = if count - from > LANES { WIDE } else { 1 };
        if lanes == WIDE {
            let got = score_lanes::<T, FMA, Q, WIDE>(queries, head, keys, from);
            for (q, got) in got.iter().enumerate() {
                let place = q * width + at + from;
                scores[place..place + WIDE * LANES].copy_from_slice(got.as_flattened());
            }
        } else {
            let got = score_lanes::<T, FMA, Q, 1>(queries, head, keys, from);
            for (q, got) in got.iter().enumerate() {
                let place = q * width + at + from;
                scores[place..place + LANES].copy_from_slice(got.as_flattened());
            }
        }
        from += lanes * LANES;
    }
}

#[inline(always)]
fn score_lanes<T: Element, const FMA: bool, const Q: usize, const W: usize>(
    queries: &[f32],
    head: usize,
    keys: &[T],
    from: usize,
) -> [[[f32; LANES]; W]; Q] {
    let mut sums = [[[0.0; LANES]; W]; Q];
    let queries = &queries[..Q * head];
    let keys = &keys[from * head..][..W * LANES * head];
    for d in 0..head {
        let mut wide = [[0.0; LANES]; W];
        for w in 0..W {
            let row = &keys[(w * head + d) * LANES..][..LANES];
            for i in 0..LANES {
                wide[w][i] = row[i].wide();
            }
        }
        for q in 0..Q {
            let query = queries[q * head + d];
            for w in 0..W {
                for i in 0..LANES {
                    sums[q][w][i] = fma::<FMA>(query, wide[w][i], sums[q][w][i]);
                }
            }
        }
    }
    sums
}

/// Adds to `out` `[n, head]` the first `count` values, weighted by columns `at…` of `weights` `[n, width]`.
#[inline(always)]
pub(super) fn blend<T: Element, const FMA: bool>(
    weights: &[f32],
    width: usize,
    at: usize,
    count: usize,
    values: &[T],
    head: usize,
    out: &mut [f32],
) {
    let n = out.len() / head;
    in_groups!(
        n,
        first,
        blend_some::<T, FMA>(
            &weights[first * width + at..],
            width,
            count,
            values,
            head,
            &mut out[first * head..]
        )
    );
}

#[inline(always)]
fn blend_some<T: Element, const FMA: bool, const Q: usize>(
    weights: &[f32],
    width: usize,
    count: usize,
    values: &[T],
    head: usize,
    out: &mut [f32],
) {
    let mut from = 0;
    while from + WIDE * LANES <= head {
        blend_lanes::<T, FMA, Q, WIDE>(weights, width, count, values, head, from, out);
        from += WIDE * LANES;
    }
    while from + LANES <= head {
        blend_lanes::<T, FMA, Q, 1>(weights, width, count, values, head, from, out);
        from += LANES;
    }
    for q in 0..Q {
        for d in from..head {
            let column = (0..count).map(|key| weights[q * width + key] * values[key * head + d].wide());
            out[q * head + d] += column.sum::<f32>();
        }
    }
}

#[inline(always)]
fn blend_lanes<T: Element, const FMA: bool, const Q: usize, const W: usize>(
    weights: &[f32],
    width: usize,
    count: usize,
    values: &[T],
    head: usize,
    from: usize,
    out: &mut [f32],
) {
    let weights: [&[f32]; Q] = std::array::from_fn(|q| &weights[q * width..][..count]);
    let mut sums = [[[0.0; LANES]; W]; Q];
    for (key, row) in values.chunks_exact(head).take(count).enumerate() {
        let row = &row[from..][..W * LANES];
        let mut wide = [[0.0; LANES]; W];
        for w in 0..W {
            for i in 0..LANES {
                wide[w][i] = row[w * LANES + i].wide();
            }
        }
        for q in 0..Q {
            let weight = weights[q][key];
            for w in 0..W {
                for i in 0..LANES {
                    sums[q][w][i] = fma::<FMA>(weight, wide[w][i], sums[q][w][i]);
                }
            }
        }
    }
    add(&sums, head, from, out);
}

/// Adds to every key's row of `out` `[keys, head]` the queries' `rows` `[n, head]`, weighted by the keys' columns `at…`
/// of `weights` `[n, width]`.
#[inline(always)]
pub(super) fn blend_transposed<const FMA: bool>(
    weights: &[f32],
    width: usize,
    at: usize,
    rows: &[f32],
    head: usize,
    out: &mut [f32],
) {
    let keys = out.len() / head;
    in_groups!(
        keys,
        first,
        transposed_some::<f32, FMA>(&weights[at + first..], width, rows, head, &mut out[first * head..])
    );
}

#[inline(always)]
fn transposed_some<T: Element, const FMA: bool, const K: usize>(
    weights: &[f32],
    width: usize,
    rows: &[T],
    head: usize,
    out: &mut [f32],
) {
    let mut from = 0;
    while from + WIDE * LANES <= head {
        transposed_lanes::<T, FMA, K, WIDE>(weights, width, rows, head, from, out);
        from += WIDE * LANES;
    }
    while from + LANES <= head {
        transposed_lanes::<T, FMA, K, 1>(weights, width, rows, head, from, out);
        from += LANES;
    }
    for k in 0..K {
        for d in from..head {
            let column =
                rows.chunks_exact(head).enumerate().map(|(n, row)| weights[n * width + k] * row[d].wide());
            out[k * head + d] += column.sum::<f32>();
        }
    }
}

#[inline(always)]
fn transposed_lanes<T: Element, const FMA: bool, const K: usize, const W: usize>(
    weights: &[f32],
    width: usize,
    rows: &[T],
    head: usize,
    from: usize,
    out: &mut [f32],
) {
    let mut sums = [[[0.0; LANES]; W]; K];
    for n in 0..rows.len() / head {
        let row = &rows[n * head + from..][..W * LANES];
        let mut wide = [[0.0; LANES]; W];
        for w in 0..W {
            for i in 0..LANES {
                wide[w][i] = row[w * LANES + i].wide();
            }
        }
        for k in 0..K {
            let weight = weights[n * width + k];
            for w in 0..W {
                for i in 0..LANES {
                    sums[k][w][i] = fma::<FMA>(weight, wide[w][i], sums[k][w][i]);
                }
            }
        }
    }
    add(&sums, head, from, out);
}

/// Adds sums to columns `from…` of `out` `[rows, head]`.
#[inline(always)]
fn add<const R: usize, const W: usize>(
    sums: &[[[f32; LANES]; W]; R],
    head: usize,
    from: usize,
    out: &mut [f32],
) {
    for (row, sums) in sums.iter().enumerate() {
        let place = &mut out[row * head + from..][..W * LANES];
        for (to, sum) in place.iter_mut().zip(sums.as_flattened()) {
            *to += sum;
        }
    }
}
