//! VisualQuality-R1's reward, for the side by side (docs/method.md section 2; arXiv 2505.14460).

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;
use statrs::function::erf::erfc;

use crate::counts::Counts;
use crate::scores::NO_NUMBER;
use crate::text::{number, pattern};

static ANSWER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?s)<answer>(.*?)</answer>"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"-?\d+(?:\.\d+)?"));

/// Added under each square root, and to the variances.
const EPSILON: f64 = 1e-6;

/// The first number of the last `<answer>…</answer>`, of the whole text where there is none.
///
/// `None`: it has no number. Beyond f64's range it is infinite.
#[must_use]
pub fn answer_score(text: &str) -> Option<f64> {
    let answer = match ANSWER.captures_iter(text).last() {
        Some(captures) => captures.get(1).map_or("", |m| m.as_str()),
        None => text,
    };
    NUMBER.find(answer).map(|m| number(m.as_str()))
}

/// The score of every text, [`NO_NUMBER`] where there is none.
pub(crate) fn scores(completions: &[String], counts: &mut Counts) -> Vec<f64> {
    let mut score = |text: &String| {
        let found = answer_score(text);
        counts.numberless += u64::from(found.is_none());
        let score = found.unwrap_or(NO_NUMBER);
        counts.overflowed += u64::from(!score.is_finite());
        score
    };
    completions.iter().map(&mut score).collect()
}

/// The reward of every response `[B·K]` over one compared group; 0 for a sample without others.
pub(crate) fn rewards(scores: &[f64], mos: &[f64], responses: usize, counts: &mut Counts) -> Vec<f64> {
    let samples = mos.len();
    counts.without_pair += if samples == 1 { 1 } else { 0 };
    counts.without_variance += if responses == 1 { samples as u64 } else { 0 };
    if samples < 2 {
        return vec![0.0; scores.len()];
    }
    let moments: Vec<Moments> = scores.chunks(responses).map(Moments::of).collect();
    let reward = |i: usize, s: f64| {
        let others = (0..samples).filter(|&z| z != i);
        let sum: f64 = others
            .map(|z| {
                let variance = moments[i].variance + moments[z].variance + EPSILON;
                fidelity(probability(s - moments[z].mean, variance), preference(mos[i], mos[z]))
            })
            .sum();
        sum / (samples - 1) as f64
    };
    scores.iter().enumerate().map(|(at, &s)| reward(at / responses, s)).collect()
}

/// `sqrt(p·t + 1e-6) + sqrt((1−p)(1−t) + 1e-6)`.
fn fidelity(p: f64, t: f64) -> f64 {
    (p * t + EPSILON).sqrt() + ((1.0 - p) * (1.0 - t) + EPSILON).sqrt()
}

/// t: whether people prefer the first, 0.5 for a tie.
fn preference(a: f64, b: f64) -> f64 {
    match a.partial_cmp(&b) {
        Some(Ordering::Greater) => 1.0,
        Some(Ordering::Less) => 0.0,
        _ => 0.5,
    }
}

/// Φ(difference / √variance); 0.5 where infinities leave no answer.
fn probability(difference: f64, variance: f64) -> f64 {
    let z = difference / variance.sqrt();
    if z.is_nan() { 0.5 } else { 0.5 * erfc(-z / std::f64::consts::SQRT_2) }
}

/// Mean and unbiased variance of a sample's scores; the variance of one is 0, beyond f64's range infinite.
struct Moments {
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(scores: &[f64]) -> Self {
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let variance = match scores.len() {
            1 => 0.0,
            _ => scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0),
        };
        Self { mean, variance: if variance.is_nan() { f64::INFINITY } else { variance } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_the_last_answer_is_the_score() {
        assert_eq!(answer_score("<answer>1</answer> 9 <answer> about 2.5 or 3</answer> 7"), Some(2.5));
        assert_eq!(answer_score("<answer>-4"), Some(-4.0));
        assert_eq!(answer_score("rated 4. of 10"), Some(4.0));
        assert_eq!(answer_score(".5"), Some(5.0));
        assert_eq!(answer_score("3 <answer>none</answer>"), None);
        assert_eq!(answer_score(""), None);
    }

    #[test]
    fn sure_and_right_earns_one_and_sure_and_wrong_next_to_nothing() {
        let scores = [1.0, 1.0, 5.0, 5.0];
        let right = rewards(&scores, &[1.0, 5.0], 2, &mut Counts::default());
        assert!(right.iter().all(|r| (r - 1.001).abs() < 1e-5), "{right:?}");
        let wrong = rewards(&scores, &[5.0, 1.0], 2, &mut Counts::default());
        assert!(wrong.iter().all(|r| (r - 0.002).abs() < 1e-5), "{wrong:?}");
    }

    #[test]
    fn infinite_scores_and_single_responses_have_a_reward() {
        let mut counts = Counts::default();
        let inf = f64::INFINITY;
        let all = rewards(&[inf, 1.0, inf, -inf], &[1.0, 2.0], 2, &mut counts);
        assert!(all.iter().all(|r| r.is_finite()), "{all:?}");
        let single = rewards(&[1.0, 5.0], &[1.0, 2.0], 1, &mut counts);
        assert!((single[0] - 1.001).abs() < 1e-5, "{single:?}");
        assert_eq!(counts, Counts { without_variance: 2, ..Counts::default() });
    }
}
