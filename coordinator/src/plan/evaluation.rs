//! Held-out sets: who answers what, and how good the answers are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use data::{Draws, FORMAT_REQUEST, evaluation_prompt};
use eval::{Bootstrap, Breakdown, Fit, Item, Means, Pair, Report, by_key};
use proto::v1::{Sample, SampleRollout, Sampling};
use settings::{Evaluation, Reward, Scope, Score, Stage, StageKind};

use super::shares::{images, is_video, sample_cost};
use super::standing::Standing;
use super::supervised::distortion;
use super::worth::{Worth, compared};
use super::{PlanError, Planner, share};
use crate::engine::{EvaluationSet, Rank};
use crate::report::AnswerLine;

/// A scored evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredEvaluation {
    /// srcc, plcc, plcc_logistic, krcc, rmse, distinct_scores (unweighted means over data sets; `srcc/NAME` of each
    /// where there are several), format, reward, …. What is undefined is absent.
    pub metrics: BTreeMap<String, f64>,
    /// How many samples were asked about.
    pub samples: u64,
    /// A line a response, in the order of the sets; in a vision stage a line a sample, without a text.
    pub answers: Vec<AnswerLine>,
    /// Why the stage has nothing more to gain (`evaluation.early_stop`), where that is so; `early_stop` among the
    /// metrics is 1 then. `best` is 1 where no earlier evaluation of the stage's validation was as good.
    pub stop: Option<String>,
}

impl Planner {
    /// Each rank's share of the held-out samples, and how answers are drawn.
    ///
    /// # Errors
    /// If the stage is not one of the recipe's.
    pub fn plan_evaluation(
        &self,
        stage: usize,
        set: EvaluationSet,
        world: &[Rank],
    ) -> Result<(BTreeMap<Rank, Vec<Sample>>, Sampling), PlanError> {
        let settings = self.stage(stage)?;
        let Evaluation { responses, temperature, max_new_tokens, .. } = settings.evaluation;
        let max_new_tokens = max_new_tokens.unwrap_or(settings.rollout.max_new_tokens);
        let question = settings.evaluation.question.as_deref();
        let samples: Vec<Sample> = self
            .held_out(stage, set)?
            .into_iter()
            .map(|s| Sample {
                id: s.id.clone(),
                images: images(s),
                prompt: question.map_or_else(
                    || evaluation_prompt(s, settings.data.video),
                    |question| format!("{question}{FORMAT_REQUEST}"),
                ),
                augment_seed: None,
                video: is_video(s),
                add_vision_id: settings.evaluation.add_vision_id,
            })
            .collect();
        let tokens = u64::from(responses) * u64::from(max_new_tokens);
        let costs: Vec<u64> = samples.iter().map(|s| sample_cost(s, settings, tokens)).collect();
        let sampling = Sampling {
            responses,
            max_new_tokens,
            temperature,
            top_k: settings.rollout.top_k,
            top_p: settings.rollout.top_p,
            seed: self.run.run.seed,
            stage: stage as u32,
        };
        Ok((share(samples, &costs, world), sampling))
    }

    /// Scores the answers to an evaluation after `step`.
    ///
    /// # Errors
    /// If an answer is missing or does not fit, or the answers cannot be scored.
    pub fn score_evaluation(
        &mut self,
        stage: usize,
        set: EvaluationSet,
        step: u64,
        answers: BTreeMap<Rank, Vec<SampleRollout>>,
    ) -> Result<ScoredEvaluation, PlanError> {
        let settings = self.stage(stage)?.clone();
        let samples = self.held_out(stage, set)?;
        let mut by_id: BTreeMap<String, (Rank, SampleRollout)> = BTreeMap::new();
        for (rank, answers) in answers {
            by_id.extend(answers.into_iter().map(|a| (a.sample_id.clone(), (rank, a))));
        }
        let mut answered = Vec::with_capacity(samples.len());
        for sample in samples {
            let (rank, answer) = by_id.remove(&sample.id).ok_or_else(|| PlanError::Answer {
                rank: 0,
                sample: sample.id.clone(),
                reason: "nobody answered for it".into(),
            })?;
            answered.push((sample, rank, answer));
        }
        let line = |sample: &data::Sample| AnswerLine {
            set,
            step,
            sample_id: sample.id.clone(),
            media: images(sample),
            mos: sample.mos,
            predicted: None,
            format: false,
            text: String::new(),
        };
        let mut scored = match settings.kind {
            StageKind::Vision => score_head(answered, &settings, line),
            StageKind::Sft | StageKind::Prpo => score_texts(answered, &settings, line),
        }?;
        if set == EvaluationSet::Validation {
            let srcc = scored.metrics.get("srcc").copied();
            let standing = self.remember(stage, step, srcc);
            let (best, stop) = (standing.best() == Some(step), standing.stop(settings.evaluation.early_stop));
            scored.metrics.insert("best".into(), f64::from(u8::from(best)));
            if stop.is_some() {
                scored.metrics.insert("early_stop".into(), 1.0);
            }
            scored.stop = stop;
        }
        Ok(scored)
    }

    /// Notes an evaluation of a stage's validation sets that was scored before, e.g. by a coordinator that this one
    /// follows; what `best` and `early_stop` say rests on all of them.
    pub fn remember(&mut self, stage: usize, step: u64, srcc: Option<f64>) -> &Standing {
        let standing = self.standings.entry(stage).or_default();
        standing.note(step, srcc);
        standing
    }

    /// The samples of a held-out set: of validation sets, at most `evaluation.samples` each, the same ones
    /// throughout a run.
    fn held_out(&self, stage: usize, set: EvaluationSet) -> Result<Vec<&data::Sample>, PlanError> {
        let settings = self.stage(stage)?;
        let data = self.stages.get(stage).ok_or(PlanError::NoStage(stage))?;
        let most = settings.evaluation.samples as usize;
        if set == EvaluationSet::Test {
            return Ok(data.test.iter().collect());
        }
        if most == 0 {
            return Ok(data.validation.iter().collect());
        }
        let mut sets: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, sample) in data.validation.iter().enumerate() {
            sets.entry(&sample.dataset).or_default().push(i);
        }
        let mut chosen: Vec<usize> = Vec::new();
        for (name, mut places) in sets {
            Draws::new("validation", &[self.run.run.seed], name).shuffle(&mut places);
            chosen.extend(places.into_iter().take(most));
        }
        chosen.sort_unstable();
        Ok(chosen.into_iter().map(|i| &data.validation[i]).collect())
    }
}

type Answered<'a> = Vec<(&'a data::Sample, Rank, SampleRollout)>;

/// A prediction to be held against the label.
struct Judged {
    dataset: String,
    item: Item,
}

impl Judged {
    fn of(sample: &data::Sample, prediction: f64) -> Self {
        Self {
            dataset: sample.dataset.clone(),
            item: Item {
                pair: Pair { prediction, label: sample.mos },
                distortion: sample.distortion.as_ref().map(|d| (d.kind, d.level)),
                reference: format!("{}\n{}", sample.dataset, sample.reference),
            },
        }
    }
}

/// Samples that an evaluation's reward compares with one another.
const COMPARED: usize = 400;

/// A vision stage's head: no texts.
fn score_head(
    answered: Answered<'_>,
    stage: &Stage,
    line: impl Fn(&data::Sample) -> AnswerLine,
) -> Result<ScoredEvaluation, PlanError> {
    let (mut kinds, mut levels, mut labelled) = (0.0, 0.0, 0.0);
    let (mut answers, mut judged): (Vec<AnswerLine>, Vec<Judged>) = (Vec::new(), Vec::new());
    for (sample, rank, answer) in answered {
        let head = answer.head.filter(|h| h.quality.is_finite()).ok_or_else(|| PlanError::Answer {
            rank,
            sample: sample.id.clone(),
            reason: "no finite prediction of the head; expected one in a vision stage".into(),
        })?;
        if let Ok(truth) = distortion(sample, stage) {
            labelled += 1.0;
            kinds += f64::from(u8::from(head.kind == truth.kind));
            levels += f64::from(u8::from(head.level == truth.level));
        }
        judged.push(Judged::of(sample, head.quality));
        answers.push(AnswerLine { predicted: Some(head.quality), ..line(sample) });
    }
    let mut metrics = agreement(judged, stage.evaluation.bootstrap);
    if labelled > 0.0 {
        metrics.insert("kind_accuracy".into(), kinds / labelled);
        metrics.insert("level_accuracy".into(), levels / labelled);
    }
    Ok(ScoredEvaluation { metrics, samples: answers.len() as u64, answers, stop: None })
}

fn score_texts(
    answered: Answered<'_>,
    stage: &Stage,
    line: impl Fn(&data::Sample) -> AnswerLine,
) -> Result<ScoredEvaluation, PlanError> {
    let responses = stage.evaluation.responses.max(1) as usize;
    let mut batch = Vec::with_capacity(answered.len());
    for (sample, rank, mut answer) in answered {
        answer.responses.sort_by_key(|r| r.index);
        if answer.responses.len() != responses {
            let reason = format!("{} responses; expected {responses}", answer.responses.len());
            return Err(PlanError::Answer { rank, sample: sample.id.clone(), reason });
        }
        batch.push((sample, answer.responses.into_iter().map(|r| r.text).collect::<Vec<_>>()));
    }
    // Every answer is compared with the whole set: the reward's triplet part costs the square of its size, so
    // larger sets are compared in groups.
    let reward = match batch.len() {
        0..=COMPARED => Reward { scope: Scope::Global, ..stage.reward.clone() },
        _ => Reward { scope: Scope::Device, group_samples: COMPARED as u32, ..stage.reward.clone() },
    };
    let groups = compared(batch.iter().map(|(sample, _)| *sample), &reward);
    let worth =
        if batch.is_empty() { Worth::default() } else { Worth::of(&batch, &groups, responses, &reward)? };
    let scores = match stage.evaluation.score {
        Score::Mean => &worth.predictions,
        Score::First => &worth.firsts,
    };
    let (mut answers, mut judged): (Vec<AnswerLine>, Vec<Judged>) = (Vec::new(), Vec::new());
    let (samples, mut unanswered) = (batch.len() as u64, 0.0);
    for (i, (sample, texts)) in batch.into_iter().enumerate() {
        let range = i * responses..(i + 1) * responses;
        match mean_score(&scores[range.clone()], &worth.formats[range.clone()]) {
            Some(prediction) => judged.push(Judged::of(sample, prediction)),
            None => unanswered += 1.0,
        }
        answers.extend(texts.into_iter().zip(range).map(|(text, at)| AnswerLine {
            predicted: worth.numbered[at].then_some(scores[at]),
            format: worth.formats[at] > 0.0,
            text,
            ..line(sample)
        }));
    }
    let mut metrics = agreement(judged, stage.evaluation.bootstrap);
    metrics.extend(worth.metrics());
    metrics.insert("unanswered".into(), unanswered);
    Ok(ScoredEvaluation { metrics, samples, answers, stop: None })
}

/// What an answer's score may be (docs/method.md section 1).
const SCORES: RangeInclusive<f64> = 1.0..=5.0;

/// A sample's prediction: the mean of its answers that are in the format and in range. None where there is no such
/// answer: a number out of a broken one can be anything, and a failure is a failure.
fn mean_score(scores: &[f64], formats: &[f64]) -> Option<f64> {
    let sound = |(score, format): &(&f64, &f64)| **format > 0.0 && SCORES.contains(*score);
    let kept: Vec<f64> = scores.iter().zip(formats).filter(sound).map(|(score, _)| *score).collect();
    (!kept.is_empty()).then(|| kept.iter().sum::<f64>() / kept.len() as f64)
}

/// Agreement with people: unweighted means over data sets, intervals and each set's own where there are several, and
/// docs/method.md section 10's breakdowns.
fn agreement(judged: Vec<Judged>, draws: u32) -> BTreeMap<String, f64> {
    let bootstrap = (draws > 0).then(|| Bootstrap { draws, ..Bootstrap::default() });
    let reports = by_key(judged.iter().map(|j| (j.dataset.clone(), j.item.pair)), bootstrap.as_ref());
    let mean = |value: fn(&Report) -> Option<f64>| {
        let values: Vec<f64> = reports.values().filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let means = Means::of(reports.values());
    let values = [
        ("srcc", means.srcc),
        ("plcc", means.plcc),
        ("plcc_logistic", mean(fitted)),
        ("krcc", mean(|r| r.krcc)),
        ("rmse", mean(|r| r.rmse)),
        ("distinct_scores", mean(|r| Some(r.distinct_scores as f64))),
    ];
    let mut metrics: BTreeMap<String, f64> =
        values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    for (name, report) in &reports {
        let of = if reports.len() > 1 { format!("/{name}") } else { String::new() };
        if reports.len() > 1 {
            let values = [
                ("srcc", report.srcc),
                ("plcc", report.plcc),
                ("plcc_logistic", fitted(report)),
                ("krcc", report.krcc),
                ("rmse", report.rmse),
            ];
            metrics.extend(values.into_iter().filter_map(|(n, value)| Some((format!("{n}{of}"), value?))));
        }
        for (n, interval) in [("srcc", report.srcc_interval), ("plcc", report.plcc_interval)] {
            if let Some(interval) = interval {
                metrics.insert(format!("{n}_low{of}"), interval.low);
                metrics.insert(format!("{n}_high{of}"), interval.high);
            }
        }
    }
    let breakdown = Breakdown::of(&judged.into_iter().map(|j| j.item).collect::<Vec<_>>());
    metrics.extend(breakdown.within_reference.srcc.map(|srcc| ("srcc_within_reference".to_owned(), srcc)));
    metrics.extend(breakdown.kinds.iter().map(|(kind, part)| (format!("by_type/{kind:02}"), part.srcc)));
    metrics.extend(breakdown.levels.iter().map(|(level, part)| (format!("by_level/{level}"), part.srcc)));
    metrics
}

fn fitted(report: &Report) -> Option<f64> {
    match &report.fit {
        Fit::Fitted { plcc, .. } => Some(*plcc),
        Fit::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::mean_score;

    #[test]
    fn broken_answers_and_numbers_off_the_scale_are_no_scores() {
        assert_eq!(mean_score(&[2.0, 4.5, 4.0], &[1.0, 0.0, 1.0]), Some(3.0));
        assert_eq!(mean_score(&[2.0, 44.0, 4.0], &[1.0, 1.0, 1.0]), Some(3.0));
        assert_eq!(mean_score(&[2.0, 44.0], &[0.0, 1.0]), None);
    }
}
