//! What responses are worth: the reward over a batch that may hold pictures and videos.

use std::collections::BTreeMap;

use reward::{Batch, Media, Scores, answer_score};
use settings::{Reward, RewardKind, Scope};

use super::PlanError;

/// Worth of every response, `[B·K]`, sample by sample in the batch's order.
#[derive(Debug, Default)]
pub(super) struct Worth {
    pub(super) rewards: Vec<f64>,
    pub(super) accuracies: Vec<f64>,
    pub(super) formats: Vec<f64>,
    /// s, finite.
    pub(super) predictions: Vec<f64>,
    /// The first of an answer's numbers, finite.
    pub(super) firsts: Vec<f64>,
    /// Whether the text has a number to predict with.
    pub(super) numbered: Vec<bool>,
    /// By part; NaN where the kind of media does not have it.
    pub(super) parts: BTreeMap<&'static str, Vec<f64>>,
    /// Counts of special cases that happened, by name.
    counts: BTreeMap<String, f64>,
    /// Shares of responses.
    padded: f64,
    numberless: f64,
    responses: usize,
}

/// One sample's part of [`Worth`], with its advantages.
#[derive(Debug)]
pub(super) struct GroupWorth<'a> {
    pub(super) rewards: &'a [f64],
    pub(super) formats: &'a [f64],
    pub(super) predictions: &'a [f64],
    pub(super) advantages: &'a [f64],
    pub(super) parts: BTreeMap<&'static str, Vec<f64>>,
}

impl Worth {
    /// Scores a batch: each kind of media is compared within itself, and only with its own of [`compared`]'s groups.
    pub(super) fn of(
        batch: &[(&data::Sample, Vec<String>)],
        groups: &[usize],
        responses: usize,
        settings: &Reward,
    ) -> Result<Self, PlanError> {
        let total = batch.len() * responses;
        let mut worth = Self {
            rewards: vec![0.0; total],
            accuracies: vec![0.0; total],
            formats: vec![0.0; total],
            predictions: vec![0.0; total],
            firsts: vec![0.0; total],
            numbered: vec![false; total],
            parts: BTreeMap::new(),
            counts: BTreeMap::new(),
            padded: 0.0,
            numberless: 0.0,
            responses,
        };
        for media in [Media::Image, Media::Video] {
            let places: Vec<usize> = (0..batch.len()).filter(|i| media_of(batch[*i].0) == media).collect();
            let same = |a: &usize, b: &usize| groups.get(*a) == groups.get(*b);
            let parts: Vec<&[usize]> = if is_cut_alike(&places, groups, settings) {
                vec![places.as_slice()]
            } else {
                places.chunk_by(same).collect()
            };
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                worth.score(batch, part, media, responses, settings)?;
            }
        }
        Ok(worth)
    }

    fn score(
        &mut self,
        batch: &[(&data::Sample, Vec<String>)],
        places: &[usize],
        media: Media,
        responses: usize,
        settings: &Reward,
    ) -> Result<(), PlanError> {
        let mos: Vec<f64> = places.iter().map(|i| batch[*i].0.mos).collect();
        let completions: Vec<String> = places.iter().flat_map(|i| batch[*i].1.iter().cloned()).collect();
        let scored =
            reward::score(Batch { media, responses, mos: &mos, completions: &completions }, settings)?;
        let finite =
            |v: f64| if v.is_nan() { 0.0 } else { v.clamp(-f64::from(f32::MAX), f64::from(f32::MAX)) };
        for (row, place) in places.iter().enumerate() {
            for k in 0..responses {
                let (from, to) = (row * responses + k, place * responses + k);
                self.rewards[to] = scored.reward[from];
                self.accuracies[to] = scored.accuracy[from];
                self.formats[to] = scored.format[from];
                self.predictions[to] = finite(scored.parts.pred[from]);
                self.numbered[to] = numbered(&completions[from], media, settings.kind);
                self.firsts[to] = finite(scored.parts.scores[from].first().copied().unwrap_or(0.0));
            }
        }
        let total = self.rewards.len();
        for (part, values) in &scored.parts.values {
            let all = self.parts.entry(part).or_insert_with(|| vec![f64::NAN; total]);
            for (row, place) in places.iter().enumerate() {
                let from = row * responses..(row + 1) * responses;
                all[place * responses..(place + 1) * responses].copy_from_slice(&values[from]);
            }
        }
        for (name, count) in counts(&scored.counts) {
            *self.counts.entry(name).or_default() += count;
        }
        self.padded += scored.counts.padded as f64 / total as f64;
        self.numberless += scored.counts.numberless as f64 / total as f64;
        Ok(())
    }

    /// Each sample's part, with its advantages.
    pub(super) fn groups<'a>(&'a self, advantages: &'a [f64]) -> impl Iterator<Item = GroupWorth<'a>> {
        (0..self.rewards.len() / self.responses.max(1)).map(|sample| {
            let range = sample * self.responses..(sample + 1) * self.responses;
            let parts = self.parts.iter().map(|(name, values)| (*name, values[range.clone()].to_vec()));
            GroupWorth {
                rewards: &self.rewards[range.clone()],
                formats: &self.formats[range.clone()],
                predictions: &self.predictions[range.clone()],
                parts: parts.filter(|(_, values)| values.iter().all(|v| !v.is_nan())).collect(),
                advantages: &advantages[range],
            }
        })
    }

    /// By name: mean and spread (population standard deviation) over responses of the reward and each of its parts,
    /// shares of responses, and counts of special cases that happened.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = self.counts.clone();
        let whole = [("reward", &self.rewards), ("accuracy", &self.accuracies)];
        let parts = self.parts.iter().map(|(name, values)| (*name, values));
        for (name, values) in whole.into_iter().chain(parts) {
            let had: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
            metrics.insert(name.into(), mean(&had));
            metrics.insert(format!("{name}_spread"), spread(&had));
        }
        metrics.insert("format".into(), mean(&self.formats));
        metrics.insert("padded".into(), self.padded);
        metrics.insert("numberless".into(), self.numberless);
        let within: Vec<f64> = self.predictions.chunks(self.responses.max(1)).map(spread).collect();
        metrics.insert("score_spread".into(), mean(&within));
        metrics
    }
}

/// The number of the group that each of a step's samples is compared in: all of a kind of media under
/// `reward.scope: global`, else as many in a row as `reward.group_samples` says. A group that lacks a sample is smaller.
pub(super) fn compared<'a>(samples: impl Iterator<Item = &'a data::Sample>, settings: &Reward) -> Vec<usize> {
    let mut before = [0; 2];
    let number = |sample: &data::Sample| {
        let place = &mut before[usize::from(media_of(sample) == Media::Video)];
        *place += 1;
        (*place - 1) / group_size(settings)
    };
    samples.map(number).collect()
}

fn group_size(settings: &Reward) -> usize {
    match settings.scope {
        Scope::Global => usize::MAX,
        Scope::Device => (settings.group_samples as usize).max(1),
    }
}

/// Whether cutting `places` into groups of the size gives the groups that they belong to.
fn is_cut_alike(places: &[usize], groups: &[usize], settings: &Reward) -> bool {
    let size = group_size(settings);
    places.iter().enumerate().all(|(i, place)| groups.get(*place) == Some(&(i / size)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The population standard deviation.
fn spread(values: &[f64]) -> f64 {
    let centre = mean(values);
    mean(&values.iter().map(|v| (v - centre).powi(2)).collect::<Vec<_>>()).sqrt()
}

fn numbered(text: &str, media: Media, kind: RewardKind) -> bool {
    match kind {
        RewardKind::Prpo => Scores::read(text, media).found > 0,
        RewardKind::VisualQualityR1 => answer_score(text).is_some(),
    }
}

fn media_of(sample: &data::Sample) -> Media {
    match sample.media {
        data::Media::Image => Media::Image,
        data::Media::Video => Media::Video,
    }
}

/// Special cases that happened, by name.
fn counts(counts: &reward::Counts) -> Vec<(String, f64)> {
    let named = serde_json::to_value(counts).unwrap_or_default();
    let named = named.as_object().cloned().unwrap_or_default();
    let happened = |(name, value): (String, serde_json::Value)| {
        value.as_f64().filter(|n| *n > 0.0).map(|n| (format!("count_{name}"), n))
    };
    named.into_iter().filter_map(happened).collect()
}
