//! PRPO's steps: responses are asked for, scored together, and become items with advantages.

use std::collections::{BTreeMap, BTreeSet};

use data::{Cursor, Occasion};
use proto::v1::train_item::Target;
use proto::v1::{Completion, Counts, PolicyTarget, Response, Sample, SampleRollout, Sampling, TrainItem};
use settings::{Stage, ZeroSpread};

use super::shares::sample_cost;
use super::supervised::cursor_text;
use super::worth::{GroupWorth, Worth};
use super::{PlanError, Planner, share};
use crate::engine::{Plan, Rank, RolloutWork, UpdateWork};
use crate::journal::RolloutRow;

/// Turns the run's seed into that of groups which are drawn again.
const SECOND_DRAW: u64 = 0x5eed_0002_5eed_0002;

/// What was asked, until it is scored.
#[derive(Debug)]
pub(super) struct Asked {
    stage: Stage,
    stage_index: usize,
    /// The step that the responses are drawn for.
    drawn_at: u64,
    /// The step that trains on them.
    number: u64,
    samples: Vec<(usize, Sample)>,
    /// Of every sample the number of those that it is compared with.
    compared: Vec<usize>,
    /// After the step.
    cursor: Cursor,
    world: Vec<Rank>,
    sampling: Sampling,
    /// All responses of the first draw, where some groups are drawn again.
    first: Option<BTreeMap<String, Vec<Response>>>,
    /// Groups that are drawn again.
    resampled: usize,
}

/// Items with advantages, from which every iteration's update is made.
#[derive(Debug)]
pub(super) struct ScoredItems {
    /// The stage and the step that the responses were drawn for.
    of: (usize, u64),
    items: Vec<TrainItem>,
    costs: Vec<u64>,
    counts: Counts,
    samples: Vec<String>,
    metrics: BTreeMap<String, f64>,
}

/// Scored rollouts: what ranks do next, and what the journal keeps of it.
#[derive(Debug)]
pub struct ScoredRollouts {
    /// The update; or responses that are drawn again first.
    pub plan: Plan,
    /// A row a sample; none yet where some are drawn again.
    pub rows: Vec<RolloutRow>,
}

pub(super) fn ask(
    (samples, compared): (Vec<(usize, Sample)>, Vec<usize>),
    stage: &Stage,
    occasion: Occasion,
    (number, cursor): (u64, Cursor),
    world: &[Rank],
) -> (Asked, RolloutWork) {
    let rollout = &stage.rollout;
    let sampling = Sampling {
        responses: rollout.responses,
        max_new_tokens: rollout.max_new_tokens,
        temperature: rollout.temperature,
        top_k: rollout.top_k,
        top_p: rollout.top_p,
        seed: occasion.seed,
        stage: occasion.stage as u32,
    };
    let work = work(samples.iter().map(|(_, s)| s.clone()).collect(), stage, sampling, world);
    let asked = Asked {
        stage: stage.clone(),
        stage_index: occasion.stage as usize,
        drawn_at: occasion.step,
        number,
        samples,
        compared,
        cursor,
        world: world.to_vec(),
        sampling,
        first: None,
        resampled: 0,
    };
    (asked, work)
}

/// Samples shared out by what drawing their responses may cost.
fn work(samples: Vec<Sample>, stage: &Stage, sampling: Sampling, world: &[Rank]) -> RolloutWork {
    let tokens = u64::from(stage.rollout.responses) * u64::from(stage.rollout.max_new_tokens);
    let costs: Vec<u64> = samples.iter().map(|s| sample_cost(s, stage, tokens)).collect();
    RolloutWork { samples: share(samples, &costs, world), sampling }
}

impl Asked {
    /// The samples whose `rewards` are all equal, where they are to be drawn again.
    fn flat(&self, rewards: &[f64]) -> Vec<Sample> {
        if self.stage.objective.zero_spread != ZeroSpread::Resample || self.first.is_some() {
            return Vec::new();
        }
        let groups = rewards.chunks(self.stage.rollout.responses as usize).zip(&self.samples);
        let flat = groups.filter(|(group, _)| group.iter().all(|r| *r == group[0]));
        flat.map(|(_, (_, sample))| sample.clone()).collect()
    }

    /// The recorded responses to what is asked, where they are there for every sample; they are not drawn again.
    pub(super) fn recorded(&mut self, rows: &[RolloutRow]) -> Option<BTreeMap<Rank, Vec<SampleRollout>>> {
        let by_id: BTreeMap<&str, &RolloutRow> = rows.iter().map(|row| (row.sample.as_str(), row)).collect();
        let rollouts: Option<Vec<SampleRollout>> =
            self.samples.iter().map(|(_, sample)| Some(rollout_of(by_id.get(sample.id.as_str())?))).collect();
        let rollouts = rollouts.filter(|rollouts| !rollouts.is_empty())?;
        self.first = Some(BTreeMap::new());
        Some(BTreeMap::from([(0, rollouts)]))
    }

    /// Asks once more for `samples`, with `responses` as all that there are so far.
    fn again(&mut self, samples: Vec<Sample>, responses: BTreeMap<String, Vec<Response>>) -> RolloutWork {
        self.resampled = samples.len();
        self.first = Some(responses);
        let sampling = Sampling { seed: self.sampling.seed ^ SECOND_DRAW, ..self.sampling };
        work(samples, &self.stage, sampling, &self.world)
    }
}

impl Planner {
    /// Scores what the ranks rolled out for the step that was planned last.
    ///
    /// # Errors
    /// If an answer does not fit what was asked, or the batch cannot be scored.
    pub fn score(
        &mut self,
        rollouts: BTreeMap<Rank, Vec<SampleRollout>>,
    ) -> Result<ScoredRollouts, PlanError> {
        let mut asked = self.asked.take().ok_or(PlanError::NothingAsked)?;
        let stage = &asked.stage.clone();
        let mut by_id = asked.first.clone().unwrap_or_default();
        by_id.extend(responses_by_id(rollouts, stage)?);
        let all =
            if stage.objective.zero_spread == ZeroSpread::Resample { by_id.clone() } else { BTreeMap::new() };
        let mut batch = Vec::with_capacity(asked.samples.len());
        for (index, sample) in &asked.samples {
            let responses = by_id.remove(&sample.id).ok_or_else(|| PlanError::Answer {
                rank: 0,
                sample: sample.id.clone(),
                reason: "nobody answered for it; expected one answer a sample".into(),
            })?;
            batch.push((&self.stages[asked.stage_index].train[*index], sample, responses));
        }
        let texts: Vec<(&data::Sample, Vec<String>)> =
            batch.iter().map(|(s, _, r)| (*s, r.iter().map(|r| r.text.clone()).collect())).collect();
        let worth = Worth::of(&texts, &asked.compared, stage.rollout.responses as usize, &stage.reward)?;
        let advantages =
            grpo::advantages(&worth.rewards, stage.rollout.responses as usize, stage.objective.advantage)?;

        let flat = asked.flat(&worth.rewards);
        if !flat.is_empty() {
            let work = asked.again(flat, all);
            self.asked = Some(asked);
            return Ok(ScoredRollouts { plan: Plan::Rollout(work), rows: Vec::new() });
        }

        let mut metrics = worth.metrics();
        metrics.insert("zero_spread".into(), advantages.zero_spread_groups as f64);
        metrics.insert(
            "zero_spread_share".into(),
            advantages.zero_spread_groups as f64 / asked.samples.len().max(1) as f64,
        );
        if stage.objective.zero_spread == ZeroSpread::Resample {
            metrics.insert("resampled".into(), asked.resampled as f64);
        }
        let drawn = batch.iter().flat_map(|(_, _, responses)| responses);
        metrics.extend(lengths(drawn, stage.rollout.max_new_tokens, &self.end_tokens));
        let mut counts = grpo::Counts::default();
        let (mut items, mut costs, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let groups = worth.groups(&advantages.values);
        for ((labelled, sample, responses), group) in batch.into_iter().zip(groups) {
            let lengths = responses.iter().map(|r| r.completion_ids.len() as u64);
            counts.add_sample(lengths.clone());
            costs.push(sample_cost(sample, stage, lengths.sum()));
            items.push(item(sample, &responses, group.advantages, stage));
            rows.push(row(labelled, sample, responses, group));
        }
        let scored = ScoredItems {
            of: (asked.stage_index, asked.drawn_at),
            items,
            costs,
            counts: Counts {
                samples: counts.samples,
                completions: counts.completions,
                tokens: counts.tokens,
                weight: 0.0,
            },
            samples: asked.samples.iter().map(|(_, s)| s.id.clone()).collect(),
            metrics,
        };
        let update = scored.update(stage, asked.number, asked.cursor, &asked.world);
        self.scored = Some(scored);
        Ok(ScoredRollouts { plan: Plan::Update(update), rows })
    }
}

impl ScoredItems {
    /// Whether these are of the responses that were drawn for these samples of a stage's step.
    pub(super) fn is_of<'a>(
        &self,
        stage: usize,
        drawn_at: u64,
        samples: impl Iterator<Item = &'a str>,
    ) -> bool {
        self.of == (stage, drawn_at) && samples.eq(self.samples.iter().map(String::as_str))
    }

    /// One iteration's update, shared out by what each sample costs now that its length is known.
    pub(super) fn update(&self, stage: &Stage, number: u64, after: Cursor, world: &[Rank]) -> UpdateWork {
        UpdateWork {
            lr: stage.optimizer.lr_at(number, stage.steps),
            counts: self.counts,
            items: share(self.items.clone(), &self.costs, world),
            samples: self.samples.clone(),
            cursor: cursor_text(after),
            metrics: self.metrics.clone(),
        }
    }
}

/// Every sample's responses in the order of their indices.
fn responses_by_id(
    rollouts: BTreeMap<Rank, Vec<SampleRollout>>,
    stage: &Stage,
) -> Result<BTreeMap<String, Vec<Response>>, PlanError> {
    let mut by_id = BTreeMap::new();
    for (rank, samples) in rollouts {
        for mut sample in samples {
            let wrong = |reason: String| PlanError::Answer { rank, sample: sample.sample_id.clone(), reason };
            sample.responses.sort_by_key(|r| r.index);
            let expected = stage.rollout.responses;
            if !sample.responses.iter().map(|r| r.index).eq(0..expected) {
                let found = sample.responses.len();
                return Err(wrong(format!("{found} responses; expected {expected}, numbered from 0")));
            }
            let odd = sample.responses.iter().find(|r| {
                r.logprobs.len() != r.completion_ids.len() || !r.logprobs.iter().all(|l| l.is_finite())
            });
            if let Some(r) = odd {
                return Err(wrong(format!(
                    "response {} has {} tokens and {} log-probabilities; expected one finite number a token",
                    r.index,
                    r.completion_ids.len(),
                    r.logprobs.len()
                )));
            }
            by_id.insert(sample.sample_id, sample.responses);
        }
    }
    Ok(by_id)
}

fn item(sample: &Sample, responses: &[Response], advantages: &[f64], stage: &Stage) -> TrainItem {
    // With one iteration a rollout the old policy is the one that is trained: its forward pass, detached.
    let several = stage.objective.iterations > 1;
    let logprobs = |r: &Response, wanted: bool| if wanted { r.logprobs.clone() } else { Vec::new() };
    let completions = responses.iter().zip(advantages).map(|(r, advantage)| Completion {
        ids: r.completion_ids.clone(),
        advantage: *advantage,
        old_logprobs: logprobs(r, several),
        rollout_logprobs: logprobs(r, !several),
        ref_logprobs: Vec::new(),
    });
    let target = PolicyTarget { completions: completions.collect() };
    TrainItem { sample: Some(sample.clone()), target: Some(Target::Policy(target)) }
}

/// The rollout that a row records.
fn rollout_of(row: &RolloutRow) -> SampleRollout {
    let parts = row.texts.iter().zip(&row.ids).zip(&row.logprobs).zip(0..);
    let responses = parts.map(|(((text, ids), logprobs), index)| Response {
        index,
        text: text.clone(),
        completion_ids: ids.clone(),
        logprobs: logprobs.clone(),
    });
    SampleRollout {
        sample_id: row.sample.clone(),
        responses: responses.collect(),
        ..SampleRollout::default()
    }
}

/// Completion lengths, tokens with the end token: mean, longest, and the share that ran into the bound.
fn lengths<'a>(
    drawn: impl Iterator<Item = &'a Response>,
    bound: u32,
    end_tokens: &BTreeSet<u32>,
) -> [(String, f64); 3] {
    let (mut count, mut tokens, mut longest, mut cut) = (0.0, 0.0, 0.0f64, 0.0);
    for response in drawn {
        let length = response.completion_ids.len() as f64;
        let ended = response.completion_ids.last().is_some_and(|last| end_tokens.contains(last));
        count += 1.0;
        tokens += length;
        longest = longest.max(length);
        cut += f64::from(u8::from(length >= f64::from(bound) && !ended));
    }
    let share = |of: f64| of / f64::max(count, 1.0);
    [("response_tokens", share(tokens)), ("response_tokens_max", longest), ("truncated", share(cut))]
        .map(|(name, value)| (name.to_owned(), value))
}

fn row(
    labelled: &data::Sample,
    sample: &Sample,
    responses: Vec<Response>,
    group: GroupWorth<'_>,
) -> RolloutRow {
    let mut row = RolloutRow {
        sample: sample.id.clone(),
        media: labelled.media,
        mos: labelled.mos,
        images: sample.images.clone(),
        prompt: sample.prompt.clone(),
        texts: Vec::new(),
        ids: Vec::new(),
        logprobs: Vec::new(),
        scores: group.predictions.to_vec(),
        formats: group.formats.to_vec(),
        parts: group.parts.into_iter().map(|(name, values)| (name.to_owned(), values)).collect(),
        rewards: group.rewards.to_vec(),
        advantages: group.advantages.to_vec(),
    };
    for response in responses {
        row.texts.push(response.text);
        row.ids.push(response.completion_ids);
        row.logprobs.push(response.logprobs);
    }
    row
}
