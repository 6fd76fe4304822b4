//! Attention over packed samples, forward and backward: what `attention::Plan` does by tensor operations, in one pass
//! each way.
//!
//! A thread takes a sample and a key head. Keys and values are turned and widened once for all completions, queries
//! go by in blocks, and scores live for one block. The gradients of keys and values are sums in f32 over all tokens
//! that saw them.

use std::cell::RefCell;
use std::ops::Range;

use tch::{Kind, Tensor};

use super::attend::Heads;
use super::element::{Element, Shared, values};
use super::lanes::{Kernel, LANES, exp, fma, largest, sum, vectorised};
use super::products::{blend, blend_transposed, padded, score};
use crate::packed::Segment;
use crate::shim::parallel;

/// Queries that go by together.
const BLOCK: usize = 64;

/// What attention reads, each contiguous and of the compute type: queries `[tokens, heads, head]`, keys and values
/// `[tokens, kv heads, head]`, cosines and signed sines `[tokens, 1, head]`.
pub(crate) struct Inputs<'a> {
    pub(crate) q: &'a Tensor,
    pub(crate) k: &'a Tensor,
    pub(crate) v: &'a Tensor,
    pub(crate) cos: &'a Tensor,
    pub(crate) sin: &'a Tensor,
}

/// Attends queries to keys, both not yet turned; gives `[tokens, heads · head]` and of each query the logarithm of its
/// sum of exponentials, f32 `[heads, tokens]`.
pub(crate) fn attend_packed<T: Element>(inputs: &Inputs<'_>, segments: &[Segment]) -> (Tensor, Tensor) {
    let from = Slices::<T>::of(inputs);
    let heads = from.heads;
    let tokens = inputs.q.size()[0];
    let out = Tensor::empty([tokens, (heads.query * heads.width) as i64], (T::KIND, inputs.q.device()));
    let totals = Tensor::empty([heads.query as i64, tokens], (Kind::Float, inputs.q.device()));
    let (to, to_totals) = (Shared::<T>::new(&out), Shared::<f32>::new(&totals));
    parallel(segments.len() * heads.key, 1, |range| {
        for number in range {
            let item = Item::new(&from, &segments[number / heads.key], number % heads.key);
            let work = Forward { item, out: &to, totals: &to_totals };
            SCRATCH.with_borrow_mut(|scratch| vectorised((work, scratch)));
        }
    });
    (out, totals)
}

/// Gradients of queries, keys and values, given what [`attend_packed`] gave and its output's gradient.
pub(crate) fn attend_packed_backward<T: Element>(
    inputs: &Inputs<'_>,
    segments: &[Segment],
    out: &Tensor,
    totals: &Tensor,
    gradient: &Tensor,
) -> [Tensor; 3] {
    let from = Slices::<T>::of(inputs);
    let gradients = [inputs.q, inputs.k, inputs.v].map(Tensor::empty_like);
    let [dq, dk, dv] = [0, 1, 2].map(|i| Shared::<T>::new(&gradients[i]));
    let (out, totals, dy) = (values::<T>(out), values::<f32>(totals), values::<T>(gradient));
    parallel(segments.len() * from.heads.key, 1, |range| {
        for number in range {
            let item = Item::new(&from, &segments[number / from.heads.key], number % from.heads.key);
            let work = Backward { item, out, totals, dy, dq: &dq, dk: &dk, dv: &dv };
            SCRATCH.with_borrow_mut(|scratch| vectorised((work, scratch)));
        }
    });
    gradients
}

/// The inputs as numbers.
struct Slices<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    cos: &'a [T],
    sin: &'a [T],
    heads: Heads,
    tokens: usize,
}

impl<'a, T: Element> Slices<'a, T> {
    fn of(inputs: &Inputs<'a>) -> Self {
        let size = |of: &Tensor, dimension: usize| of.size()[dimension] as usize;
        let heads = Heads { query: size(inputs.q, 1), key: size(inputs.k, 1), width: size(inputs.q, 2) };
        Self {
            q: values(inputs.q),
            k: values(inputs.k),
            v: values(inputs.v),
            cos: values(inputs.cos),
            sin: values(inputs.sin),
            heads,
            tokens: size(inputs.q, 0),
        }
    }
}

/// A prompt or a completion: its tokens within the sample, and where its columns begin.
#[derive(Clone, Debug)]
struct Piece {
    rows: Range<usize>,
    /// Keys before it, in whole lanes.
    columns: usize,
}

/// A sample under one key head.
struct Item<'a, T> {
    from: &'a Slices<'a, T>,
    key_head: usize,
    /// The sample's first token.
    start: usize,
    /// The prompt, then its completions.
    pieces: Vec<Piece>,
}

/// Numbers that one item needs, kept from one to the next; each `[tokens, head]` unless said.
#[derive(Default)]
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Keys by piece in blocks of a lane, transposed, as [`score`] reads them.
    key_columns: Vec<f32>,
    value_columns: Vec<f32>,
    /// One head's, turned and scaled.
    queries: Vec<f32>,
    /// `[block, prompt + own]`.
    scores: Vec<f32>,
    slopes: Vec<f32>,
    /// `[block, head]`.
    block: Vec<f32>,
    d_block: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct Forward<'a, T> {
    item: Item<'a, T>,
    out: &'a Shared<'a, T>,
    totals: &'a Shared<'a, f32>,
}

struct Backward<'a, T> {
    item: Item<'a, T>,
    out: &'a [T],
    totals: &'a [f32],
    dy: &'a [T],
    dq: &'a Shared<'a, T>,
    dk: &'a Shared<'a, T>,
    dv: &'a Shared<'a, T>,
}

/// Some queries of a piece: they see all of the prompt, and of their own piece what is not after them.
#[derive(Clone)]
struct Block<'a> {
    /// Keys of the prompt; 0 for the prompt's own queries.
    prompt: usize,
    piece: &'a Piece,
    /// Within the piece.
    rows: Range<usize>,
}

impl Block<'_> {
    /// Within the sample.
    fn tokens(&self) -> Range<usize> {
        self.piece.rows.start + self.rows.start..self.piece.rows.start + self.rows.end
    }

    /// Where scores against the own piece begin, and how many numbers a query has.
    fn width(&self) -> (usize, usize) {
        let own_at = padded(self.prompt);
        (own_at, own_at + padded(self.rows.end))
    }
}

fn resized(numbers: &mut Vec<f32>, length: usize) -> &mut [f32] {
    numbers.resize(length, 0.0);
    numbers
}

fn zeroed(numbers: &mut Vec<f32>, length: usize) -> &mut [f32] {
    numbers.clear();
    resized(numbers, length)
}

impl<'a, T: Element> Item<'a, T> {
    fn new(from: &'a Slices<'a, T>, segment: &Segment, key_head: usize) -> Self {
        let start = segment.prompt.start;
        let mut columns = 0;
        let pieces = std::iter::once(&segment.prompt).chain(&segment.completions).map(|range| {
            let piece = Piece { rows: range.start - start..range.end - start, columns };
            columns += padded(range.len());
            piece
        });
        Self { from, key_head, start, pieces: pieces.collect() }
    }

    fn tokens(&self) -> usize {
        self.pieces.last().map_or(0, |piece| piece.rows.end)
    }

    fn columns(&self) -> usize {
        self.pieces.last().map_or(0, |piece| piece.columns + padded(piece.rows.len()))
    }

    fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let prompt = self.pieces.first().map_or(0, |piece| piece.rows.len());
        self.pieces.iter().enumerate().flat_map(move |(number, piece)| {
            let length = piece.rows.len();
            (0..length).step_by(BLOCK).map(move |first| Block {
                prompt: if number == 0 { 0 } else { prompt },
                piece,
                rows: first..(first + BLOCK).min(length),
            })
        })
    }

    /// The query heads that share the key head.
    fn query_heads(&self) -> Range<usize> {
        let shared = self.from.heads.query / self.from.heads.key;
        self.key_head * shared..(self.key_head + 1) * shared
    }

    fn scale(&self) -> f32 {
        1.0 / (self.from.heads.width as f32).sqrt()
    }

    /// Where a head of the sample's `row` lies in `[tokens, heads, head]`.
    #[inline(always)]
    fn place(&self, row: usize, heads: usize, head: usize) -> Range<usize> {
        let width = self.from.heads.width;
        let at = ((self.start + row) * heads + head) * width;
        at..at + width
    }

    /// The key head's keys and values, widened.
    #[inline(always)]
    fn load<const FMA: bool>(&self, scratch: &mut Scratch, backward: bool) {
        let Heads { key, width, .. } = self.from.heads;
        let tokens = self.tokens();
        let keys = resized(&mut scratch.keys, tokens * width);
        let values = resized(&mut scratch.values, tokens * width);
        let rows = keys.chunks_exact_mut(width).zip(values.chunks_exact_mut(width));
        for (row, (to_key, to_value)) in rows.enumerate() {
            let place = self.place(row, key, self.key_head);
            self.turn::<FMA>(row, &self.from.k[place.clone()], to_key);
            for (to, from) in to_value.iter_mut().zip(&self.from.v[place]) {
                *to = from.wide();
            }
        }
        self.transpose(keys, resized(&mut scratch.key_columns, self.columns() * width));
        if backward {
            self.transpose(values, resized(&mut scratch.value_columns, self.columns() * width));
        }
    }

    /// `[tokens, head]` into blocks of a lane, `[blocks, head, LANES]`, a piece after the other.
    #[inline(always)]
    fn transpose(&self, rows: &[f32], to: &mut [f32]) {
        let width = self.from.heads.width;
        to.fill(0.0);
        for piece in &self.pieces {
            for (column, row) in piece.rows.clone().enumerate() {
                let at = piece.columns + column;
                let block = &mut to[at / LANES * LANES * width..][..LANES * width];
                for (d, value) in rows[row * width..(row + 1) * width].iter().enumerate() {
                    block[d * LANES + at % LANES] = *value;
                }
            }
        }
    }

    /// One head's queries, turned and scaled.
    #[inline(always)]
    fn load_queries<const FMA: bool>(&self, head: usize, queries: &mut Vec<f32>) {
        let Heads { query, width, .. } = self.from.heads;
        let scale = self.scale();
        for (row, to) in resized(queries, self.tokens() * width).chunks_exact_mut(width).enumerate() {
            self.turn::<FMA>(row, &self.from.q[self.place(row, query, head)], to);
            for value in to {
                *value *= scale;
            }
        }
    }

    /// Turns the halves of a head into each other, with the roundings of a decoding step.
    #[inline(always)]
    fn turn<const FMA: bool>(&self, row: usize, from: &[T], to: &mut [f32]) {
        let width = self.from.heads.width;
        let at = (self.start + row) * width;
        let (cos, sin) = (&self.from.cos[at..at + width], &self.from.sin[at..at + width]);
        let half = width / 2;
        for i in 0..half {
            let (a, b) = (from[i].wide(), from[half + i].wide());
            let first = T::narrow(a * cos[i].wide()).wide();
            let second = T::narrow(b * cos[half + i].wide()).wide();
            to[i] = T::narrow(fma::<FMA>(b, sin[i].wide(), first)).wide();
            to[half + i] = T::narrow(fma::<FMA>(a, sin[half + i].wide(), second)).wide();
        }
    }

    /// Writes the gradient of what [`Self::turn`] was given.
    #[inline(always)]
    fn turn_back<const FMA: bool>(&self, row: usize, from: &[f32], scale: f32, to: &mut [T]) {
        let width = self.from.heads.width;
        let at = (self.start + row) * width;
        let (cos, sin) = (&self.from.cos[at..at + width], &self.from.sin[at..at + width]);
        let half = width / 2;
        for i in 0..half {
            let (a, b) = (from[i] * scale, from[half + i] * scale);
            to[i] = T::narrow(fma::<FMA>(b, sin[half + i].wide(), a * cos[i].wide()));
            to[half + i] = T::narrow(fma::<FMA>(a, sin[i].wide(), b * cos[half + i].wide()));
        }
    }

    /// Scores of `rows` `[n, head]` (queries, or gradients of outputs) against a block's prompt and own columns; what
    /// a query does not see is −∞.
    #[inline(always)]
    fn score<const FMA: bool>(
        &self,
        block: &Block<'_>,
        rows: &[f32],
        columns: &[f32],
        scores: &mut Vec<f32>,
    ) {
        let head = self.from.heads.width;
        let (own_at, width) = block.width();
        let scores = resized(scores, block.rows.len() * width);
        if block.prompt > 0 {
            score::<f32, FMA>(rows, head, columns, block.prompt, scores, width, 0);
        }
        let own = &columns[block.piece.columns * head..];
        score::<f32, FMA>(rows, head, own, block.rows.end, scores, width, own_at);
        for (row, scores) in block.rows.clone().zip(scores.chunks_exact_mut(width)) {
            scores[own_at + row + 1..].fill(f32::NEG_INFINITY);
        }
    }

    /// Adds to `out` `[n, head]` the keys or values (`rows`) that a block's queries see, weighted.
    #[inline(always)]
    fn blend<const FMA: bool>(&self, block: &Block<'_>, weights: &[f32], rows: &[f32], out: &mut [f32]) {
        let head = self.from.heads.width;
        let (own_at, width) = block.width();
        if block.prompt > 0 {
            blend::<f32, FMA>(weights, width, 0, block.prompt, rows, head, out);
        }
        let own = &rows[block.piece.rows.start * head..];
        blend::<f32, FMA>(weights, width, own_at, block.rows.end, own, head, out);
    }

    /// Adds to `out` `[tokens, head]`, for what a block's queries see, the queries' `rows` `[n, head]`, weighted.
    #[inline(always)]
    fn blend_back<const FMA: bool>(&self, block: &Block<'_>, weights: &[f32], rows: &[f32], out: &mut [f32]) {
        let head = self.from.heads.width;
        let (own_at, width) = block.width();
        if block.prompt > 0 {
            blend_transposed::<FMA>(weights, width, 0, rows, head, &mut out[..block.prompt * head]);
        }
        let own = block.piece.rows.start * head..(block.piece.rows.start + block.rows.end) * head;
        blend_transposed::<FMA>(weights, width, own_at, rows, head, &mut out[own]);
    }
}

impl<T: Element> Kernel for (Forward<'_, T>, &mut Scratch) {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (Forward { item, out, totals }, scratch) = self;
        let Heads { query, width: head, .. } = item.from.heads;
        item.load::<FMA>(scratch, false);
        for query_head in item.query_heads() {
            item.load_queries::<FMA>(query_head, &mut scratch.queries);
            for block in item.blocks() {
                let tokens = block.tokens();
                let queries = &scratch.queries[tokens.start * head..tokens.end * head];
                item.score::<FMA>(&block, queries, &scratch.key_columns, &mut scratch.scores);
                let places = query_head * item.from.tokens + item.start;
                // SAFETY: a head's tokens of a sample belong to one item, which one thread has.
                let totals = unsafe { totals.part(places + tokens.start..places + tokens.end) };
                let (_, width) = block.width();
                let block_out = zeroed(&mut scratch.block, block.rows.len() * head);
                for (scores, total) in scratch.scores.chunks_exact_mut(width).zip(totals.iter_mut()) {
                    *total = softmax::<FMA>(scores);
                }
                item.blend::<FMA>(&block, &scratch.scores, &scratch.values, block_out);
                for (row, from) in tokens.zip(block_out.chunks_exact(head)) {
                    // SAFETY: as above.
                    let to = unsafe { out.part(item.place(row, query, query_head)) };
                    for (to, value) in to.iter_mut().zip(from) {
                        *to = T::narrow(*value);
                    }
                }
            }
        }
    }
}

impl<T: Element> Kernel for (Backward<'_, T>, &mut Scratch) {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (Backward { item, out, totals, dy, dq, dk, dv }, scratch) = self;
        let Heads { query, key, width: head } = item.from.heads;
        item.load::<FMA>(scratch, true);
        zeroed(&mut scratch.d_keys, item.tokens() * head);
        zeroed(&mut scratch.d_values, item.tokens() * head);
        for query_head in item.query_heads() {
            item.load_queries::<FMA>(query_head, &mut scratch.queries);
            for block in item.blocks() {
                let tokens = block.tokens();
                let queries = &scratch.queries[tokens.start * head..tokens.end * head];
                let d_out = resized(&mut scratch.block, block.rows.len() * head);
                let mut along = [0.0; BLOCK];
                for ((row, to), along) in tokens.clone().zip(d_out.chunks_exact_mut(head)).zip(&mut along) {
                    let place = item.place(row, query, query_head);
                    for ((to, dy), out) in to.iter_mut().zip(&dy[place.clone()]).zip(&out[place]) {
                        *to = dy.wide();
                        *along = fma::<FMA>(*to, out.wide(), *along);
                    }
                }
                item.score::<FMA>(&block, queries, &scratch.key_columns, &mut scratch.scores);
                item.score::<FMA>(&block, d_out, &scratch.value_columns, &mut scratch.slopes);
                let (_, width) = block.width();
                let rows = scratch.scores.chunks_exact_mut(width).zip(scratch.slopes.chunks_exact_mut(width));
                let places = query_head * item.from.tokens + item.start;
                let totals = &totals[places + tokens.start..places + tokens.end];
                for (((scores, slopes), total), along) in rows.zip(totals).zip(&along) {
                    for (weight, slope) in scores.iter_mut().zip(slopes) {
                        *weight = exp::<FMA>(*weight - total);
                        // What is not seen has no weight, and no finite slope.
                        *slope = if *weight > 0.0 { *weight * (*slope - along) } else { 0.0 };
                    }
                }
                item.blend_back::<FMA>(&block, &scratch.scores, d_out, &mut scratch.d_values);
                item.blend_back::<FMA>(&block, &scratch.slopes, queries, &mut scratch.d_keys);
                let d_queries = zeroed(&mut scratch.d_block, block.rows.len() * head);
                item.blend::<FMA>(&block, &scratch.slopes, &scratch.keys, d_queries);
                for (row, from) in tokens.zip(d_queries.chunks_exact(head)) {
                    // SAFETY: a head's tokens of a sample belong to one item, which one thread has.
                    let to = unsafe { dq.part(item.place(row, query, query_head)) };
                    item.turn_back::<FMA>(row, from, item.scale(), to);
                }
            }
        }
        let rows = scratch.d_keys.chunks_exact(head).zip(scratch.d_values.chunks_exact(head));
        for (row, (d_key, d_value)) in rows.enumerate() {
            let place = item.place(row, key, item.key_head);
            // SAFETY: as above.
            let (to_key, to_value) = unsafe { (dk.part(place.clone()), dv.part(place)) };
            item.turn_back::<FMA>(row, d_key, 1.0, to_key);
            for (to, value) in to_value.iter_mut().zip(d_value) {
                *to = T::narrow(*value);
            }
        }
    }
}

/// Scores, in whole lanes, become their softmax; gives the logarithm of the sum of their exponentials.
#[inline(always)]
fn softmax<const FMA: bool>(scores: &mut [f32]) -> f32 {
    let top = largest(scores);
    let mut totals = [0.0; LANES];
    for lane in scores.chunks_exact_mut(LANES) {
        for i in 0..LANES {
            lane[i] = exp::<FMA>(lane[i] - top);
            totals[i] += lane[i];
        }
    }
    let total = sum(totals);
    let share = 1.0 / total;
    for score in scores {
        *score *= share;
    }
    top + total.ln()
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
