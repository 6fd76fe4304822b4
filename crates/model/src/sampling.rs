//! From logits to tokens: filters in the order in which transformers applies them, then one draw.

use tch::{Device, Kind, Tensor};

use crate::cpu;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Softmax temperature; 0 takes the most likely token (the first of equals).
    pub temperature: f64,
    /// Tokens kept by rank; 0 keeps all.
    pub top_k: u32,
    /// Probability mass kept, the most likely tokens first; 1 keeps all.
    pub top_p: f64,
    /// Tokens less likely than this share of the most likely one are dropped; 0 keeps all.
    pub min_p: f64,
    /// Divides the positive logits of tokens already there, prompt included, and multiplies negative ones; 1 is none.
    pub repetition_penalty: f64,
    /// Length bound of a response, tokens.
    pub max_new_tokens: usize,
    /// End tokens cannot be drawn before so many tokens.
    pub min_new_tokens: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: 256,
            min_new_tokens: 0,
        }
    }
}

/// A sampling setting that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}, expected {expected}")]
pub struct SamplingError {
    /// Which setting.
    pub field: &'static str,
    /// Its value.
    pub value: f64,
    /// What it may be.
    pub expected: &'static str,
}

impl Sampling {
    /// Checks the settings.
    ///
    /// # Errors
    /// If one is out of its range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let wrong = |field, value, expected| Err(SamplingError { field, value, expected });
        match self {
            s if !(s.temperature.is_finite() && s.temperature >= 0.0) => {
                wrong("temperature", s.temperature, "0 (greedy) or more")
            }
            s if !(s.top_p > 0.0 && s.top_p <= 1.0) => wrong("top_p", s.top_p, "more than 0, at most 1"),
            s if !(0.0..1.0).contains(&s.min_p) => wrong("min_p", s.min_p, "at least 0, less than 1"),
            s if !(s.repetition_penalty.is_finite() && s.repetition_penalty > 0.0) => {
                wrong("repetition_penalty", s.repetition_penalty, "more than 0")
            }
            s if s.max_new_tokens == 0 => wrong("max_new_tokens", 0.0, "1 or more"),
            _ => Ok(()),
        }
    }

    /// Whether draws decide.
    pub(crate) fn is_random(&self) -> bool {
        self.temperature > 0.0
    }
}

/// Tokens chosen for some rows.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// `[rows]` i64.
    pub(crate) ids: Tensor,
    /// Log-probabilities of the full softmax at temperature 1, before any filter, `[rows]` f32.
    pub(crate) logprobs: Tensor,
}

/// What a row's scores go through besides [`Sampling`].
#[derive(Debug)]
pub(crate) struct Filters {
    /// Never chosen.
    pub(crate) banned: Vec<u32>,
    /// End tokens.
    pub(crate) ends: Vec<u32>,
    /// The same two on the device, i64.
    uploaded: [Tensor; 2],
}

impl Filters {
    pub(crate) fn new(banned: &[u32], ends: &[u32], device: Device) -> Self {
        let upload = |ids: &[u32]| {
            let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
            Tensor::from_slice(&ids).to_device(device)
        };
        Self { banned: banned.into(), ends: ends.into(), uploaded: [banned, ends].map(upload) }
    }
}

/// Rows `[from, from + rows)` whose scores are to be changed before choosing.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    pub(crate) from: i64,
    pub(crate) rows: i64,
    /// The end tokens cannot be chosen yet.
    pub(crate) too_short: bool,
    /// Tokens already there, `[rows, vocabulary]` bool, for the repetition penalty.
    pub(crate) seen: Option<&'a Tensor>,
}

/// Chooses a token a row from `logits` `[rows, vocabulary]`; `draws` `[rows]` (f64) decide where sampling is random.
pub(crate) fn choose(
    logits: &Tensor,
    sampling: &Sampling,
    filters: &Filters,
    spans: &[Span<'_>],
    draws: Option<&Tensor>,
) -> Chosen {
    if logits.device() == Device::Cpu && matches!(logits.kind(), Kind::Float | Kind::BFloat16) {
        return cpu::choose(&logits.contiguous(), sampling, filters, spans, draws);
    }
    choose_there(logits, sampling, filters, spans, draws)
}

/// As [`choose`], by tensor operations, on any device.
fn choose_there(
    logits: &Tensor,
    sampling: &Sampling,
    filters: &Filters,
    spans: &[Span<'_>],
    draws: Option<&Tensor>,
) -> Chosen {
    let logits = logits.to_kind(Kind::Float);
    let total = logits.logsumexp([-1_i64].as_slice(), true);
    let mut scores = logits.copy();
    for span in spans {
        let mut rows = scores.narrow(0, span.from, span.rows);
        if let Some(seen) = span.seen {
            rows.copy_(&penalised(&rows, seen, sampling.repetition_penalty));
        }
        if span.too_short {
            let _ = rows.index_fill_(1, &filters.uploaded[1], f64::NEG_INFINITY);
        }
    }
    let _ = scores.index_fill_(1, &filters.uploaded[0], f64::NEG_INFINITY);
    let ids = match draws {
        Some(draws) => draw(&scores, sampling, draws),
        None => scores.argmax(-1, true),
    };
    let logprobs = (logits.gather(1, &ids, false) - total).squeeze_dim(1);
    Chosen { ids: ids.squeeze_dim(1), logprobs }
}

fn penalised(scores: &Tensor, seen: &Tensor, penalty: f64) -> Tensor {
    let changed = (scores / penalty).where_self(&scores.gt(0.0), &(scores * penalty));
    changed.where_self(seen, scores)
}

/// Draws by inverting the cumulative distribution of what the filters leave, giving `[rows, 1]`.
fn draw(scores: &Tensor, sampling: &Sampling, draws: &Tensor) -> Tensor {
    let vocabulary = scores.size()[1];
    let keep = match i64::from(sampling.top_k) {
        0 => vocabulary,
        k => k.min(vocabulary),
    };
    let sorted = keep < vocabulary || sampling.top_p < 1.0 || sampling.min_p > 0.0;
    let (scores, ids) = match sorted {
        true => {
            let (values, ids) = scores.topk(keep, -1, true, true);
            (values, Some(ids))
        }
        false => (scores.shallow_clone(), None),
    };
    let mut mass = (scores / sampling.temperature).softmax(-1, Kind::Float).to_kind(Kind::Double);
    if sampling.top_p < 1.0 {
        // A token stays while the likelier ones before it hold less than top_p: the first always does.
        let before = mass.cumsum(-1, Kind::Double) - &mass;
        mass = mass.masked_fill(&before.ge(sampling.top_p), 0.0);
    }
    if sampling.min_p > 0.0 {
        let least = mass.narrow(1, 0, 1) * sampling.min_p;
        mass = mass.masked_fill(&mass.lt_tensor(&least), 0.0);
    }
    let cumulative = mass.cumsum(-1, Kind::Double);
    let target = draws.unsqueeze(1) * cumulative.narrow(1, keep - 1, 1);
    // The first whose cumulative mass exceeds the target has mass of its own.
    let place = cumulative.le_tensor(&target).sum_dim_intlist([-1_i64].as_slice(), true, Kind::Int64);
    match ids {
        Some(ids) => ids.gather(1, &place, false),
        None => place,
    }
}

#[cfg(test)]
#[path = "sampling_tests.rs"]
mod tests;
