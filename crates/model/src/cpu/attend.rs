//! One decoding step's attention: every row turns its queries and key, stores key and value, and looks at its
//! sample's prompt and at its own tokens.
//!
//! A thread takes a sample and a key head: the prompt's keys are read once for all of the sample's responses.

use std::cell::RefCell;

use tch::Tensor;

use super::cohort::{LayerCache, RowCohort};
use super::element::{Element, Shared, values};
use super::lanes::{Kernel, LANES, exp, fma, largest, sum, vectorised};
use super::products::{blend, padded, score};
use crate::shim::parallel;

/// Heads of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads.
    pub(crate) key: usize,
    /// Width of one.
    pub(crate) width: usize,
}

/// Cosines and sines `[positions, head / 2]` of all positions that can occur.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

/// A cohort's place in the step, and one layer of its cache.
struct Rows<'a, T> {
    cohort: Shape<'a>,
    /// Of the step, the first that is the cohort's.
    first: usize,
    prompt_keys: &'a [T],
    prompt_values: &'a [T],
    own_keys: Shared<'a, T>,
    own_values: Shared<'a, T>,
}

/// A cohort's numbers without its tensors, which belong to one thread.
#[derive(Clone, Copy)]
struct Shape<'a> {
    prompts: &'a [usize],
    slots: &'a [usize],
    longest: usize,
    capacity: usize,
    filled: usize,
}

/// A sample's rows.
struct Item<'a, T> {
    of: &'a Rows<'a, T>,
    sample: usize,
    /// Index of its first row within the cohort.
    row: usize,
    rows: usize,
}

/// Attends `qkv` `[rows, (heads + 2 · kv heads) · head]`, not yet turned, whose rows are those of `cohorts` in order
/// and stand at `positions`; gives `[rows, heads · head]`.
pub(crate) fn attend<T: Element>(
    qkv: &Tensor,
    positions: &[i64],
    turns: &Turns,
    heads: Heads,
    layer: usize,
    cohorts: &[&RowCohort],
) -> Tensor {
    let out =
        Tensor::empty([positions.len() as i64, (heads.query * heads.width) as i64], (T::KIND, qkv.device()));
    let (from, to) = (values::<T>(qkv), Shared::<T>::new(&out));
    let mut before = 0;
    let rows: Vec<Rows<'_, T>> = cohorts
        .iter()
        .map(|cohort| {
            let first = before;
            before += cohort.rows();
            Rows::new(cohort, layer, first)
        })
        .collect();
    let items: Vec<Item<'_, T>> = cohorts
        .iter()
        .zip(&rows)
        .flat_map(|(cohort, of)| {
            cohort.samples().into_iter().map(move |(sample, row, rows)| Item { of, sample, row, rows })
        })
        .collect();
    parallel(items.len() * heads.key, 1, |range| {
        for number in range {
            let (item, key_head) = (&items[number / heads.key], number % heads.key);
            let work = Attend { item, key_head, qkv: from, out: &to, positions, turns, heads };
            // What is called in between would not be compiled for the processor at hand.
            SCRATCH.with_borrow_mut(|scratch| vectorised((work, scratch)));
        }
    });
    out
}

impl<'a, T: Element> Rows<'a, T> {
    fn new(cohort: &'a RowCohort, layer: usize, first: usize) -> Self {
        let LayerCache { prompt, own } = &cohort.layers[layer];
        Self {
            cohort: Shape {
                prompts: &cohort.prompts,
                slots: &cohort.slots,
                longest: cohort.longest,
                capacity: cohort.capacity,
                filled: cohort.filled,
            },
            first,
            prompt_keys: values(&prompt.0),
            prompt_values: values(&prompt.1),
            own_keys: Shared::new(&own.0),
            own_values: Shared::new(&own.1),
        }
    }
}

struct Attend<'a, T> {
    item: &'a Item<'a, T>,
    key_head: usize,
    qkv: &'a [T],
    out: &'a Shared<'a, T>,
    positions: &'a [i64],
    turns: &'a Turns,
    heads: Heads,
}

/// Numbers that one item needs, kept from one to the next.
#[derive(Default)]
struct Scratch {
    /// `[queries, head]`.
    queries: Vec<f32>,
    /// `[queries, prompt + own]`.
    scores: Vec<f32>,
    /// `[queries, head]`.
    out: Vec<f32>,
    /// A turned head.
    turned: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<T: Element> Kernel for (Attend<'_, T>, &mut Scratch) {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.0.with::<FMA>(self.1);
    }
}

impl<T: Element> Attend<'_, T> {
    #[inline(always)]
    fn with<const FMA: bool>(&self, scratch: &mut Scratch) {
        let Heads { query, key, width: head } = self.heads;
        let Rows { cohort, prompt_keys, prompt_values, .. } = self.item.of;
        let shared = query / key;
        let queries = self.item.rows * shared;
        let (prompt, own) = (cohort.prompts[self.item.sample], cohort.filled);
        let (own_at, seen) = (padded(prompt), padded(prompt) + padded(own));
        scratch.queries.resize(queries * head, 0.0);
        scratch.scores.resize(queries * seen, 0.0);
        scratch.out.clear();
        scratch.out.resize(queries * head, 0.0);
        scratch.turned.resize(head, 0.0);
        for row in 0..self.item.rows {
            let queries = &mut scratch.queries[row * shared * head..(row + 1) * shared * head];
            self.enter::<FMA>(row, queries, &mut scratch.turned);
        }

        let place = self.item.sample * key + self.key_head;
        let keys = &prompt_keys[place * head * padded(cohort.longest)..];
        score::<T, FMA>(&scratch.queries, head, keys, prompt, &mut scratch.scores, seen, 0);
        for row in 0..self.item.rows {
            let queries = &scratch.queries[row * shared * head..(row + 1) * shared * head];
            let scores = &mut scratch.scores[row * shared * seen..(row + 1) * shared * seen];
            score::<T, FMA>(queries, head, self.own_keys(row), own, scores, seen, own_at);
        }

        let totals = scratch.queries.chunks_exact_mut(head).zip(scratch.scores.chunks_exact_mut(seen));
        for (query, scores) in totals {
            // The query is done with: its place keeps the sum of exponentials.
            query[0] = softmax::<FMA>(scores);
        }

        let kept = &prompt_values[place * cohort.longest * head..];
        blend::<T, FMA>(&scratch.scores, seen, 0, prompt, kept, head, &mut scratch.out);
        for row in 0..self.item.rows {
            let range = row * shared..(row + 1) * shared;
            let scores = &scratch.scores[range.start * seen..range.end * seen];
            let out = &mut scratch.out[range.start * head..range.end * head];
            blend::<T, FMA>(scores, seen, own_at, own, self.own_values(row), head, out);
            self.leave(row, &scratch.queries[range.start * head..range.end * head], out);
        }
    }

    /// The part of a cache of `length` numbers a slot and key head that is a row's.
    #[expect(clippy::mut_from_ref, reason = "an item's parts are its thread's alone")]
    #[inline(always)]
    fn own<'s>(&self, cache: &'s Shared<'_, T>, row: usize, length: usize) -> &'s mut [T] {
        let place = self.item.of.cohort.slots[self.item.row + row] * self.heads.key + self.key_head;
        // SAFETY: what a slot has under one key head belongs to one item, which one thread has, and each caller lets
        // it go before the next asks.
        unsafe { cache.part(place * length..(place + 1) * length) }
    }

    #[inline(always)]
    fn own_keys(&self, row: usize) -> &mut [T] {
        let of = self.item.of;
        self.own(&of.own_keys, row, self.heads.width * padded(of.cohort.capacity))
    }

    #[inline(always)]
    fn own_values(&self, row: usize) -> &mut [T] {
        let of = self.item.of;
        self.own(&of.own_values, row, self.heads.width * of.cohort.capacity)
    }

    /// Turns a row's queries and key, scales the queries, and stores key and value.
    #[inline(always)]
    fn enter<const FMA: bool>(&self, row: usize, queries: &mut [f32], turned: &mut [f32]) {
        let Heads { query, key, width: head } = self.heads;
        let cohort = self.item.of.cohort;
        let shared = query / key;
        let row_of_step = self.item.of.first + self.item.row + row;
        let qkv = &self.qkv[row_of_step * (query + 2 * key) * head..][..(query + 2 * key) * head];
        let half = head / 2;
        let at = self.positions[row_of_step] as usize * half;
        let (cos, sin) = (&self.turns.cos[at..at + half], &self.turns.sin[at..at + half]);
        let scale = 1.0 / (head as f32).sqrt();
        for (number, to) in queries.chunks_exact_mut(head).enumerate() {
            let from = &qkv[(self.key_head * shared + number) * head..][..head];
            turn::<T, FMA>(from, cos, sin, to);
            for value in to.iter_mut() {
                *value *= scale;
            }
        }
        turn::<T, FMA>(&qkv[(query + self.key_head) * head..][..head], cos, sin, turned);
        let column = cohort.filled - 1;
        let block = &mut self.own_keys(row)[column / LANES * LANES * head..][..LANES * head];
        if column.is_multiple_of(LANES) {
            // Scores are computed for whole lanes.
            block.fill(T::narrow(0.0));
        }
        for (value, lane) in turned.iter().zip(block.chunks_exact_mut(LANES)) {
            lane[column % LANES] = T::narrow(*value);
        }
        let kept = &mut self.own_values(row)[column * head..(column + 1) * head];
        kept.copy_from_slice(&qkv[(query + key + self.key_head) * head..][..head]);
    }

    /// Writes a row's outputs, each divided by its sum of exponentials.
    #[inline(always)]
    fn leave(&self, row: usize, totals: &[f32], out: &[f32]) {
        let Heads { query, key, width: head } = self.heads;
        let shared = query / key;
        let from = ((self.item.of.first + self.item.row + row) * query + self.key_head * shared) * head;
        // SAFETY: a row's outputs under one key head belong to one item, which one thread has.
        let to = unsafe { self.out.part(from..from + shared * head) };
        for ((to, out), total) in
            to.chunks_exact_mut(head).zip(out.chunks_exact(head)).zip(totals.chunks_exact(head))
        {
            let share = 1.0 / total[0];
            for (to, value) in to.iter_mut().zip(out) {
                *to = T::narrow(value * share);
            }
        }
    }
}

/// Turns the halves of a head into each other, rounding as the cache does.
#[inline(always)]
fn turn<T: Element, const FMA: bool>(from: &[T], cos: &[f32], sin: &[f32], to: &mut [f32]) {
    let half = cos.len();
    let (first, second) = from.split_at(half);
    let (to_first, to_second) = to.split_at_mut(half);
    for i in 0..half {
        let (a, b) = (first[i].wide(), second[i].wide());
        to_first[i] = T::narrow(fma::<FMA>(-b, sin[i], T::narrow(a * cos[i]).wide())).wide();
        to_second[i] = T::narrow(fma::<FMA>(a, sin[i], T::narrow(b * cos[i]).wide())).wide();
    }
}

/// Scores, in whole lanes, become exponentials of their distance from the largest; gives their sum.
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
    sum(totals)
}
