//! The whole reward: scores, parts, accuracy and format of a batch.

use settings::{Reward, RewardKind, Scope};

use crate::batch::{Batch, Error};
use crate::counts::Counts;
use crate::format::{matches_any_answer, matches_format};
use crate::parts::{Group, PARTS, Parts};
use crate::scores::Scores;
use crate::visualquality_r1;

/// Rewards of a batch; every list is `[B·K]`, sample by sample, and free of NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// How well the scores agree with people, without the format.
    pub accuracy: Vec<f64>,
    /// F, 0 or 1.
    pub format: Vec<f64>,
    /// What advantages are made of: accuracy + weight · F.
    pub reward: Vec<f64>,
    /// What the accuracy is made of.
    pub parts: Parts,
    /// Special cases that decided a value.
    pub counts: Counts,
}

/// Scores a batch by the reward that `settings.kind` names (docs/method.md section 2).
///
/// # Errors
/// If the batch is empty, its lists do not fit, or a MOS is not finite.
pub fn score(batch: Batch<'_>, settings: &Reward) -> Result<Scored, Error> {
    batch.check()?;
    let mut counts = Counts::default();
    let (accuracy, parts) = match settings.kind {
        RewardKind::Prpo => prpo(&batch, settings, &mut counts),
        RewardKind::VisualQualityR1 => visual_quality_r1(&batch, settings, &mut counts),
    };
    let matches = |text: &String| match settings.kind {
        RewardKind::Prpo => matches_format(text, batch.media, settings.strict_format),
        RewardKind::VisualQualityR1 => matches_any_answer(text),
    };
    let format: Vec<f64> = batch.completions.iter().map(|text| f64::from(u8::from(matches(text)))).collect();
    let reward = accuracy.iter().zip(&format).map(|(a, f)| a + settings.parts.format * f).collect();
    Ok(Scored { accuracy, format, reward, parts, counts })
}

/// Samples that are compared with one another, as a number of samples a group.
fn group_samples(samples: usize, settings: &Reward) -> usize {
    match settings.scope {
        Scope::Global => samples,
        Scope::Device => (settings.group_samples as usize).max(1),
    }
}

fn prpo(batch: &Batch<'_>, settings: &Reward, counts: &mut Counts) -> (Vec<f64>, Parts) {
    let scores: Vec<Scores> = batch.completions.iter().map(|text| Scores::read(text, batch.media)).collect();
    for s in &scores {
        s.count(counts);
    }
    let predictions: Vec<f64> = scores.iter().map(Scores::prediction).collect();
    let mut parts = Parts::default();
    let mut accuracy = Vec::with_capacity(scores.len());
    let size = group_samples(batch.mos.len(), settings);
    for (g, mos) in batch.mos.chunks(size).enumerate() {
        let start = g * size * batch.responses;
        let range = start..start + mos.len() * batch.responses;
        let group = Group {
            media: batch.media,
            responses: batch.responses,
            mos,
            scores: &scores[range.clone()],
            predictions: &predictions[range],
            settings: &settings.parts,
        };
        accuracy.extend(group_accuracy(&group, &mut parts, counts));
    }
    parts.scores = scores.into_iter().map(|s| s.values).collect();
    parts.pred = predictions;
    (accuracy, parts)
}

/// The weighted sum of the parts; each part's values are added to the report on the way.
///
/// The published image reward is divided by 3 (`divisor`) because of S: without it (video, or `score_rank: 0`) it is
/// not.
fn group_accuracy(group: &Group<'_>, report: &mut Parts, counts: &mut Counts) -> Vec<f64> {
    let mut sum = vec![0.0; group.predictions.len()];
    for part in PARTS.iter().filter(|part| (part.applies)(group.media)) {
        let values = (part.values)(group, counts);
        let weight = (part.weight)(group.settings);
        for (total, value) in sum.iter_mut().zip(&values) {
            *total += weight * value;
        }
        report.values.entry(part.name).or_default().extend(values);
    }
    let ranked = group.media == crate::Media::Image && group.settings.score_rank != 0.0;
    if ranked { sum.into_iter().map(|total| total / group.settings.divisor).collect() } else { sum }
}

fn visual_quality_r1(batch: &Batch<'_>, settings: &Reward, counts: &mut Counts) -> (Vec<f64>, Parts) {
    let scores = visualquality_r1::scores(batch.completions, counts);
    let size = group_samples(batch.mos.len(), settings);
    let groups = batch.mos.chunks(size).zip(scores.chunks(size * batch.responses));
    let accuracy =
        groups.flat_map(|(mos, s)| visualquality_r1::rewards(s, mos, batch.responses, counts)).collect();
    let parts = Parts { scores: scores.iter().map(|&s| vec![s]).collect(), pred: scores, ..Parts::default() };
    (accuracy, parts)
}
