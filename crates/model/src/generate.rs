//! Rollouts: K responses a prompt, each picture encoded and each prompt prefilled once.
//!
//! ```text
//! requests → admit: encode pictures, prefill prompts, draw first tokens → cohorts
//!          → step: one token for every living response, one read of the device → finished ones leave
//! ```
//! New requests are admitted as others finish. What is batched with what changes no draw: a response's i-th token is
//! decided by the i-th number of a stream that its own name gives ([`crate::DrawKey`]).

use std::collections::VecDeque;

use tch::{Kind, Tensor, no_grad_guard};
use vision::Patches;

use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::draws::DrawKey;
use crate::params::Params;
use crate::processor::SpecialTokens;
use crate::prompt::Prompt;
use crate::qwen::Qwen;
use crate::sampling::{Chosen, Filters, Sampling, Span, choose};

/// A prompt and how many responses it is to have.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Names the sample's draws.
    pub id: &'a str,
    /// The prompt.
    pub prompt: &'a Prompt,
    /// Its pictures, in order.
    pub pictures: Vec<&'a Patches>,
    /// K.
    pub responses: u32,
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// Its tokens, with the end token where one was drawn.
    pub ids: Vec<u32>,
    /// Log-probability of each under the full softmax at temperature 1, whatever the sampling.
    pub logprobs: Vec<f32>,
}

/// How much is held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Responses decoded together.
    pub rows: usize,
    /// Prompt tokens prefilled together.
    pub prefill_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 512, prefill_tokens: 8192 }
    }
}

/// A rollout under way: call [`Rollout::step`] until it says that nothing is left.
#[derive(Debug)]
pub struct Rollout<'a> {
    decoder: Decoder<'a>,
    sampling: Sampling,
    ends: Vec<u32>,
    filters: Filters,
    key: DrawKey,
    limits: Limits,
    requests: &'a [Request<'a>],
    waiting: VecDeque<usize>,
    batch: Batch,
    responses: Vec<Vec<Response>>,
    rows_decoded: usize,
}

/// The living rows, cohort after cohort.
#[derive(Debug, Default)]
struct Batch {
    cohorts: Vec<Drawn>,
    /// Request and response of each row.
    names: Vec<(usize, usize)>,
    /// Last token and its position, `[rows]` i64.
    state: Option<(Tensor, Tensor)>,
}

/// A cohort with what choosing its tokens needs.
#[derive(Debug)]
struct Drawn {
    cache: Cache,
    /// `[rows, max new tokens]` f64; absent when greedy.
    draws: Option<Tensor>,
    /// `[rows, vocabulary]` bool; present under a repetition penalty.
    seen: Option<Tensor>,
}

impl<'a> Rollout<'a> {
    /// Prepares responses to `requests`. `sampling` has been checked.
    #[must_use]
    pub fn new(
        qwen: &'a Qwen,
        params: &'a Params,
        requests: &'a [Request<'a>],
        sampling: &Sampling,
        special: &SpecialTokens,
        key: DrawKey,
        limits: Limits,
    ) -> Self {
        let _guard = no_grad_guard();
        let rows = requests.iter().map(|r| r.responses as usize).sum::<usize>().clamp(1, limits.rows);
        let decoder = Decoder::new(qwen, params, rows, farthest(requests, sampling));
        Self::by(decoder, requests, sampling, special, key, limits)
    }

    fn by(
        decoder: Decoder<'a>,
        requests: &'a [Request<'a>],
        sampling: &Sampling,
        special: &SpecialTokens,
        key: DrawKey,
        limits: Limits,
    ) -> Self {
        let mut order: Vec<usize> = (0..requests.len()).filter(|&r| requests[r].responses > 0).collect();
        // Prompts of like length share a cohort with little padding.
        order.sort_by_key(|&r| (requests[r].responses, requests[r].prompt.ids.len()));
        Self {
            sampling: sampling.clone(),
            ends: special.end.clone(),
            filters: Filters::new(&special.banned, &special.end, decoder.device()),
            key,
            limits,
            requests,
            waiting: order.into(),
            batch: Batch::default(),
            responses: requests.iter().map(|r| vec![Response::default(); r.responses as usize]).collect(),
            decoder,
            rows_decoded: 0,
        }
    }

    /// One token for every living response; admits waiting requests where there is room. False when all are done.
    pub fn step(&mut self) -> bool {
        let _guard = no_grad_guard();
        while let Some(next) = self.admissible() {
            self.admit(&next);
        }
        if !self.batch.names.is_empty() {
            self.decode();
        }
        !(self.batch.names.is_empty() && self.waiting.is_empty())
    }

    /// Tokens drawn so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.responses.iter().flatten().map(|r| r.ids.len()).sum()
    }

    /// Rows of logits so far, a prompt's last position counted once a response: what tokens were chosen from.
    #[must_use]
    pub fn rows_decoded(&self) -> usize {
        self.rows_decoded
    }

    /// The responses, in the order of the requests.
    #[must_use]
    pub fn finish(self) -> Vec<Vec<Response>> {
        self.responses
    }

    /// The next requests to admit together: like prompts, at most the room left. Waits until a quarter of the room
    /// is free, so that cohorts stay few.
    fn admissible(&mut self) -> Option<Vec<usize>> {
        let living = self.batch.names.len();
        let room = self.limits.rows.saturating_sub(living);
        if living > 0 && room * 4 < self.limits.rows {
            return None;
        }
        let first = *self.waiting.front()?;
        let (responses, shortest) = (self.requests[first].responses, self.requests[first].prompt.ids.len());
        let mut chosen = Vec::new();
        let (mut rows, mut tokens) = (0, 0);
        while let Some(&next) = self.waiting.front() {
            let request = &self.requests[next];
            let length = request.prompt.ids.len();
            rows += responses as usize;
            tokens += length;
            let like = request.responses == responses && length * 4 <= shortest * 5;
            let fits = rows <= room && tokens <= self.limits.prefill_tokens;
            // A request that exceeds the room by itself goes alone.
            let alone = chosen.is_empty() && living == 0;
            if !(alone || like && fits) {
                break;
            }
            chosen.push(next);
            self.waiting.pop_front();
        }
        (!chosen.is_empty()).then_some(chosen)
    }

    /// Encodes, prefills and draws the first tokens of `which`.
    fn admit(&mut self, which: &[usize]) {
        let requests: Vec<&Request<'_>> = which.iter().map(|&r| &self.requests[r]).collect();
        let responses = i64::from(requests[0].responses);
        let (logits, prompts) = self.decoder.prefill(&requests);
        let logits = logits.repeat_interleave_self_int(responses, 0, None);
        self.rows_decoded += logits.size()[0] as usize;
        let capacity = (self.sampling.max_new_tokens as i64 - 1).max(1);
        let names: Vec<(usize, usize)> =
            which.iter().flat_map(|&r| (0..responses as usize).map(move |k| (r, k))).collect();
        let seen = (self.sampling.repetition_penalty != 1.0).then(|| self.seen(&requests, responses));
        let drawn = Drawn {
            cache: self.decoder.cache(prompts, responses, capacity),
            draws: self.draws(&names),
            seen,
        };
        let starts: Vec<i64> = names.iter().map(|&(r, _)| self.requests[r].prompt.next_position).collect();
        let positions = Tensor::from_slice(&starts).to_device(logits.device());
        let chosen = {
            let spans = [drawn.span(0, &self.sampling)];
            choose(&logits, &self.sampling, &self.filters, &spans, drawn.draw().as_ref())
        };
        let mut fresh =
            Batch { cohorts: vec![drawn], names, state: Some((chosen.ids.shallow_clone(), positions)) };
        fresh.mark(&chosen.ids);
        let alive = self.record(&fresh.names, &chosen);
        fresh.keep(&alive);
        self.batch.join(fresh);
    }

    fn decode(&mut self) {
        let Some((tokens, positions)) = self.batch.state.take() else { return };
        for drawn in &mut self.batch.cohorts {
            drawn.cache.advance();
        }
        let caches: Vec<&Cache> = self.batch.cohorts.iter().map(|d| &d.cache).collect();
        let logits = self.decoder.step(&tokens, &positions, &caches);
        self.rows_decoded += logits.size()[0] as usize;
        let mut spans = Vec::new();
        let mut from = 0;
        for drawn in &self.batch.cohorts {
            spans.push(drawn.span(from, &self.sampling));
            from += drawn.cache.rows();
        }
        let draws: Option<Vec<Tensor>> = self.batch.cohorts.iter().map(Drawn::draw).collect();
        let draws = draws.map(|draws| Tensor::cat(&draws, 0));
        let chosen = choose(&logits, &self.sampling, &self.filters, &spans, draws.as_ref());
        self.batch.state = Some((chosen.ids.shallow_clone(), positions + 1));
        self.batch.mark(&chosen.ids);
        let alive = self.record(&self.batch.names.clone(), &chosen);
        self.batch.keep(&alive);
    }

    /// Reads the chosen tokens (the step's one synchronisation) and says which rows go on.
    fn record(&mut self, names: &[(usize, usize)], chosen: &Chosen) -> Vec<bool> {
        let both = [chosen.ids.to_kind(Kind::Double), chosen.logprobs.to_kind(Kind::Double)];
        let mut values = vec![0.0; names.len() * 2];
        Tensor::cat(&both, 0).copy_data(&mut values, names.len() * 2);
        let (ids, logprobs) = values.split_at(names.len());
        let context = self.decoder.context();
        names
            .iter()
            .zip(ids.iter().zip(logprobs))
            .map(|(&(request, response), (&id, &logprob))| {
                let prompt = self.requests[request].prompt.ids.len();
                let response = &mut self.responses[request][response];
                response.ids.push(id as u32);
                response.logprobs.push(logprob as f32);
                let length = response.ids.len();
                let full = length >= self.sampling.max_new_tokens || prompt + length >= context;
                !full && !self.ends.contains(&(id as u32))
            })
            .collect()
    }

    /// Every row's draws for its whole length.
    fn draws(&self, names: &[(usize, usize)]) -> Option<Tensor> {
        let tokens = self.sampling.max_new_tokens;
        self.sampling.is_random().then(|| {
            let all: Vec<f64> = names
                .iter()
                .flat_map(|&(request, response)| {
                    self.key.draws(self.requests[request].id, response as u32, tokens)
                })
                .collect();
            Tensor::from_slice(&all).view([-1, tokens as i64]).to_device(self.decoder.device())
        })
    }

    /// Which tokens each row's prompt holds.
    fn seen(&self, requests: &[&Request<'_>], responses: i64) -> Tensor {
        let device = self.decoder.device();
        let rows: Vec<Tensor> = requests
            .iter()
            .map(|request| {
                let ids: Vec<i64> = request.prompt.ids.iter().map(|&id| i64::from(id)).collect();
                let ids = Tensor::from_slice(&ids).to_device(device);
                Tensor::zeros([self.decoder.vocabulary()], (Kind::Bool, device)).index_fill(0, &ids, 1)
            })
            .collect();
        Tensor::stack(&rows, 0).repeat_interleave_self_int(responses, 0, None)
    }
}

/// A bound on the positions of all tokens.
fn farthest(requests: &[Request<'_>], sampling: &Sampling) -> i64 {
    let prompt = requests.iter().map(|r| r.prompt.next_position).max().unwrap_or(0);
    prompt + sampling.max_new_tokens as i64
}

impl Drawn {
    /// The draws that decide the coming token.
    fn draw(&self) -> Option<Tensor> {
        self.draws.as_ref().map(|draws| draws.select(1, self.cache.filled()))
    }

    fn span(&self, from: i64, sampling: &Sampling) -> Span<'_> {
        let too_short = (self.cache.filled() as usize) < sampling.min_new_tokens;
        Span { from, rows: self.cache.rows(), too_short, seen: self.seen.as_ref() }
    }
}

impl Batch {
    /// Marks chosen tokens as seen.
    fn mark(&mut self, ids: &Tensor) {
        let mut from = 0;
        for drawn in &mut self.cohorts {
            let rows = drawn.cache.rows();
            if let Some(seen) = &mut drawn.seen {
                let _ = seen.scatter_value_(1, &ids.narrow(0, from, rows).unsqueeze(1), 1);
            }
            from += rows;
        }
    }

    /// Lets the rows go whose flag is false.
    fn keep(&mut self, alive: &[bool]) {
        if alive.iter().all(|&alive| alive) {
            return;
        }
        let mut from = 0;
        let mut kept: Vec<i64> = Vec::new();
        self.cohorts.retain_mut(|drawn| {
            let rows = drawn.cache.rows() as usize;
            let flags = &alive[from..from + rows];
            let rows_kept: Vec<i64> = (0..rows).filter(|&row| flags[row]).map(|row| row as i64).collect();
            kept.extend(rows_kept.iter().map(|row| row + from as i64));
            from += rows;
            if rows_kept.is_empty() {
                return false;
            }
            if rows_kept.len() < rows {
                drawn.cache.keep(flags);
                let pick =
                    |x: &Tensor| x.index_select(0, &Tensor::from_slice(&rows_kept).to_device(x.device()));
                drawn.draws = drawn.draws.as_ref().map(pick);
                drawn.seen = drawn.seen.as_ref().map(pick);
            }
            true
        });
        let names = std::mem::take(&mut self.names);
        self.names = kept.iter().map(|&row| names[row as usize]).collect();
        self.state = self.state.take().filter(|_| !kept.is_empty()).map(|(tokens, positions)| {
            let kept = Tensor::from_slice(&kept).to_device(tokens.device());
            (tokens.index_select(0, &kept), positions.index_select(0, &kept))
        });
    }

    fn join(&mut self, other: Self) {
        let Some((tokens, positions)) = other.state else { return };
        self.state = Some(match self.state.take() {
            Some((t, p)) => (Tensor::cat(&[t, tokens], 0), Tensor::cat(&[p, positions], 0)),
            None => (tokens, positions),
        });
        self.cohorts.extend(other.cohorts);
        self.names.extend(other.names);
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
