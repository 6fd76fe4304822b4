//! From logits to tokens on the CPU: as `sampling::choose`, a row at a time, in a few passes over its logits.

use std::cell::RefCell;
use std::cmp::Ordering;

use tch::{Device, Kind, Tensor};

use super::element::{Bf16, Element, Shared, values};
use super::lanes::{Kernel, LANES, exp, largest, sum, vectorised};
use crate::sampling::{Chosen, Filters, Sampling, Span};
use crate::shim::parallel;

/// Chooses a token a row from `logits` `[rows, vocabulary]` (f32 or bf16); `draws` `[rows]` (f64) decide where
/// sampling is random.
pub(crate) fn choose(
    logits: &Tensor,
    sampling: &Sampling,
    filters: &Filters,
    spans: &[Span<'_>],
    draws: Option<&Tensor>,
) -> Chosen {
    let draws = draws.map(|draws| Vec::<f64>::try_from(draws).unwrap_or_default());
    let rows = Rows { sampling, filters, spans, draws: draws.as_deref() };
    match logits.kind() {
        Kind::BFloat16 => rows.choose::<Bf16>(logits),
        _ => rows.choose::<f32>(logits),
    }
}

struct Rows<'a> {
    sampling: &'a Sampling,
    filters: &'a Filters,
    spans: &'a [Span<'a>],
    draws: Option<&'a [f64]>,
}

impl Rows<'_> {
    fn choose<T: Element>(&self, logits: &Tensor) -> Chosen {
        let (rows, vocabulary) = logits.size2().unwrap_or_default();
        let ids = Tensor::empty([rows], (Kind::Int64, Device::Cpu));
        let logprobs = Tensor::empty([rows], (Kind::Float, Device::Cpu));
        let jobs = self.jobs(rows as usize);
        let from = values::<T>(logits);
        let (sampling, banned, ends) = (self.sampling, &self.filters.banned, &self.filters.ends);
        let (to_ids, to_logprobs) = (Shared::<i64>::new(&ids), Shared::<f32>::new(&logprobs));
        parallel(jobs.len(), 1, |range| {
            // SAFETY: each part of the rows is given to one thread.
            let (ids, logprobs) = unsafe { (to_ids.part(range.clone()), to_logprobs.part(range.clone())) };
            for (row, (id, logprob)) in range.zip(ids.iter_mut().zip(logprobs)) {
                let logits = &from[row * vocabulary as usize..][..vocabulary as usize];
                let work = One { job: &jobs[row], sampling, banned, ends, logits, id, logprob };
                // What is called in between would not be compiled for the processor at hand.
                SCRATCH.with_borrow_mut(|scratch| vectorised((work, scratch)));
            }
        });
        Chosen { ids, logprobs }
    }

    fn jobs(&self, rows: usize) -> Vec<Job<'_>> {
        let draw = |row: usize| self.draws.map(|draws| draws[row]);
        let mut jobs: Vec<Job<'_>> =
            (0..rows).map(|row| Job { too_short: false, seen: None, draw: draw(row) }).collect();
        for span in self.spans {
            let jobs = &mut jobs[span.from as usize..][..span.rows as usize];
            for (row, job) in jobs.iter_mut().enumerate() {
                job.too_short = span.too_short;
                job.seen = span.seen.map(|seen| {
                    let vocabulary = seen.size()[1] as usize;
                    &values::<u8>(seen)[row * vocabulary..(row + 1) * vocabulary]
                });
            }
        }
        jobs
    }
}

/// What a row's choice depends on besides its logits.
struct Job<'a> {
    too_short: bool,
    seen: Option<&'a [u8]>,
    draw: Option<f64>,
}

struct One<'a, T> {
    job: &'a Job<'a>,
    sampling: &'a Sampling,
    banned: &'a [u32],
    ends: &'a [u32],
    logits: &'a [T],
    id: &'a mut i64,
    logprob: &'a mut f32,
}

/// Memory that is kept from one row to the next.
#[derive(Default)]
struct Scratch {
    /// Filled up to whole lanes by −∞.
    scores: Vec<f32>,
    candidates: Vec<(f32, usize)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<T: Element> Kernel for (One<'_, T>, &mut Scratch) {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (one, Scratch { scores, candidates }) = self;
        scores.clear();
        scores.extend(one.logits.iter().map(|v| v.wide()));
        scores.resize(one.logits.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        let top = largest(scores);
        let mut totals = [0.0; LANES];
        for lane in scores.chunks_exact(LANES) {
            for i in 0..LANES {
                totals[i] += exp::<FMA>(lane[i] - top);
            }
        }
        one.filter(scores);
        let id = match one.job.draw {
            Some(draw) => draw_from::<FMA>(scores, one.logits.len(), candidates, one.sampling, draw),
            None => first_largest(scores),
        };
        *one.id = id as i64;
        *one.logprob = one.logits[id].wide() - top - sum(totals).ln();
    }
}

impl<T: Element> One<'_, T> {
    fn filter(&self, scores: &mut [f32]) {
        if let Some(seen) = self.job.seen {
            let penalty = self.sampling.repetition_penalty as f32;
            for (score, _) in scores.iter_mut().zip(seen).filter(|(_, seen)| **seen != 0) {
                *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
            }
        }
        let ends = self.ends.iter().filter(|_| self.job.too_short);
        for &id in self.banned.iter().chain(ends) {
            scores[id as usize] = f32::NEG_INFINITY;
        }
    }
}

#[inline(always)]
fn first_largest(scores: &[f32]) -> usize {
    let top = largest(scores);
    scores.iter().position(|&score| score == top).unwrap_or(0)
}

/// Draws by inverting the cumulative distribution of what the filters leave.
#[inline(always)]
fn draw_from<const FMA: bool>(
    scores: &mut [f32],
    vocabulary: usize,
    candidates: &mut Vec<(f32, usize)>,
    sampling: &Sampling,
    draw: f64,
) -> usize {
    let keep = match sampling.top_k as usize {
        0 => vocabulary,
        k => k.min(vocabulary),
    };
    candidates.clear();
    if keep < vocabulary {
        likeliest(scores, keep, candidates);
    } else if sampling.top_p < 1.0 || sampling.min_p > 0.0 {
        candidates.extend(scores[..vocabulary].iter().copied().zip(0..));
        candidates.sort_unstable_by(|a, b| order(*a, *b));
    } else {
        return draw_plain::<FMA>(&mut scores[..], vocabulary, sampling.temperature as f32, draw);
    }
    let top = candidates.first().map_or(0.0, |c| c.0);
    let weight = |score: f32| (f64::from(score - top) / sampling.temperature).exp();
    let total: f64 = candidates.iter().map(|c| weight(c.0)).sum();
    let mut before = 0.0;
    let kept = candidates.iter().take_while(|c| {
        let weight = weight(c.0);
        let stays = before < sampling.top_p * total && weight >= sampling.min_p && weight > 0.0;
        before += weight;
        stays
    });
    let kept = kept.count();
    let target = draw * candidates[..kept].iter().map(|c| weight(c.0)).sum::<f64>();
    let mut cumulative = 0.0;
    let chosen = candidates[..kept].iter().find(|c| {
        cumulative += weight(c.0);
        cumulative > target
    });
    chosen.or(candidates[..kept].last()).map_or(0, |c| c.1)
}

/// The likelier first; of equals the lower id.
fn order(a: (f32, usize), b: (f32, usize)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The `keep` likeliest, in order.
#[inline(always)]
fn likeliest(scores: &[f32], keep: usize, candidates: &mut Vec<(f32, usize)>) {
    let mut least = f32::NEG_INFINITY;
    for (number, lane) in scores.chunks_exact(LANES).enumerate() {
        if largest(lane) <= least {
            continue;
        }
        for (i, &score) in lane.iter().enumerate() {
            if score > least {
                let place = candidates.partition_point(|c| c.0 >= score);
                if candidates.len() == keep {
                    candidates.pop();
                }
                candidates.insert(place, (score, number * LANES + i));
                if candidates.len() == keep {
                    least = candidates[keep - 1].0;
                }
            }
        }
    }
}

/// Draws from all tokens, in the order of their ids.
#[inline(always)]
fn draw_plain<const FMA: bool>(scores: &mut [f32], vocabulary: usize, temperature: f32, draw: f64) -> usize {
    let top = largest(scores);
    for score in &mut *scores {
        *score = exp::<FMA>((*score - top) / temperature);
    }
    let target = draw * scores.iter().map(|&weight| f64::from(weight)).sum::<f64>();
    let mut cumulative = 0.0;
    let chosen = scores[..vocabulary].iter().position(|&weight| {
        cumulative += f64::from(weight);
        cumulative > target
    });
    chosen.or_else(|| scores.iter().rposition(|&weight| weight > 0.0)).unwrap_or(0)
}
