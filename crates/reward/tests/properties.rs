//! What holds for every batch, however odd its texts.

use proptest::collection::vec;
use proptest::prelude::*;
use reward::{Batch, Counts, Media, Scored, score};
use settings::{Reward, RewardKind, Scope};

#[derive(Clone, Debug)]
struct Case {
    media: Media,
    responses: usize,
    mos: Vec<f64>,
    completions: Vec<String>,
}

impl Case {
    fn score(&self, settings: &Reward) -> Scored {
        let Self { media, responses, mos, completions } = self;
        score(Batch { media: *media, responses: *responses, mos, completions }, settings).expect("a batch")
    }

    /// The samples in another order, each with its responses.
    fn with_samples(&self, order: &[usize]) -> Self {
        let texts = |&i: &usize| &self.completions[i * self.responses..(i + 1) * self.responses];
        Self {
            mos: order.iter().map(|&i| self.mos[i]).collect(),
            completions: order.iter().flat_map(texts).cloned().collect(),
            ..self.clone()
        }
    }

    /// Every sample's responses in reverse order.
    fn with_responses_reversed(&self) -> Self {
        let reversed = self.completions.chunks(self.responses).flat_map(|c| c.iter().rev().cloned());
        Self { completions: reversed.collect(), ..self.clone() }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(100u32..=500, 1..7).prop_map(|v| {
            let lines: Vec<String> = v.iter().map(|x| format!("{:.2}", f64::from(*x) / 100.0)).collect();
            format!("<think>rated</think>\n<answer>{}</answer>", lines.join("\n"))
        }),
        2 => vec(prop_oneof!["[-+]?[0-9]{0,3}\\.[0-9]{1,3}", "[0-9]{40}", "-[0-9]{400}\\.0", "[0-9]{330}"], 0..4)
            .prop_map(|v| v.join(" ")),
        1 => "[ -~]{0,20}",
        1 => any::<String>(),
        1 => Just(String::new()),
    ]
}

fn batch() -> impl Strategy<Value = Case> {
    let media = prop_oneof![Just(Media::Image), Just(Media::Video)];
    (media, 1usize..6, 1usize..6).prop_flat_map(move |(media, responses, samples)| {
        let mos = prop_oneof![(1i32..=5).prop_map(f64::from), 1.0..5.0];
        (vec(mos, samples), vec(text(), samples * responses)).prop_map(move |(mos, completions)| Case {
            media,
            responses,
            mos,
            completions,
        })
    })
}

/// Answers with distinct means and MOS, so that no order is a matter of position.
fn distinct() -> impl Strategy<Value = Case> {
    let media = prop_oneof![Just(Media::Image), Just(Media::Video)];
    (media, 1usize..5, 1usize..6).prop_flat_map(|(media, responses, samples)| {
        let order = |n: usize| Just((0..n).collect::<Vec<usize>>()).prop_shuffle();
        (order(samples), order(samples * responses)).prop_map(move |(mos, texts)| Case {
            media,
            responses,
            mos: mos.into_iter().map(|g| 1.3 + 0.7 * g as f64).collect(),
            completions: texts.into_iter().map(|s| format!("{:.2}", 1.0 + 0.11 * s as f64)).collect(),
        })
    })
}

fn rewards() -> impl Strategy<Value = Reward> {
    let kind = prop_oneof![Just(RewardKind::Prpo), Just(RewardKind::VisualQualityR1)];
    (kind, any::<bool>(), 1u32..4).prop_map(|(kind, device, group_samples)| Reward {
        kind,
        scope: if device { Scope::Device } else { Scope::Global },
        group_samples,
        ..Reward::default()
    })
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reward_is_ever_nan_or_infinite(case in batch(), settings in rewards()) {
        let scored = case.score(&settings);
        let all = [&scored.accuracy, &scored.format, &scored.reward];
        for list in all.into_iter().chain(scored.parts.values.values()) {
            prop_assert_eq!(list.len(), case.completions.len());
            prop_assert!(list.iter().all(|v| v.is_finite()), "{:?}", scored);
        }
        prop_assert!(scored.parts.pred.iter().all(|v| !v.is_nan()));
    }

    #[test]
    fn every_part_stays_in_its_range(case in batch()) {
        let k = case.responses as f64;
        let parts = case.score(&Reward::default()).parts.values;
        let in_range = |name: &str, low: f64, high: f64| {
            parts.get(name).is_none_or(|values| values.iter().all(|v| (low..=high + 1e-12).contains(v)))
        };
        prop_assert!(in_range("std_penalty", 0.0, 0.25));
        prop_assert!(in_range("response_balance", 0.0, 0.5));
        prop_assert!(in_range("pairwise", 0.0, 1.0));
        prop_assert!(in_range("triplet", 0.0, 1.0));
        prop_assert!(in_range("rank", (-k / (k + 1.0)).exp(), 1.0));
    }

    #[test]
    fn the_order_of_samples_does_not_matter_where_nothing_ties(case in distinct(), seed in any::<u64>()) {
        let mut order: Vec<usize> = (0..case.mos.len()).collect();
        order.rotate_left((seed % case.mos.len() as u64) as usize);
        if seed % 2 == 1 {
            order.reverse();
        }
        let (before, after) = (case.score(&Reward::default()), case.with_samples(&order).score(&Reward::default()));
        let moved: Vec<f64> =
            order.iter().flat_map(|&i| &before.reward[i * case.responses..(i + 1) * case.responses]).copied().collect();
        prop_assert!(close(&moved, &after.reward), "{moved:?} {:?}", after.reward);
    }

    #[test]
    fn the_order_of_responses_matters_to_the_triplet_part_alone(case in distinct()) {
        let (before, after) =
            (case.score(&Reward::default()), case.with_responses_reversed().score(&Reward::default()));
        for (name, values) in before.parts.values.iter().filter(|(name, _)| **name != "triplet") {
            let reversed: Vec<f64> =
                values.chunks(case.responses).flat_map(|c| c.iter().rev().copied()).collect();
            prop_assert!(close(&reversed, &after.parts.values[name]), "{name}: {reversed:?}");
        }
    }

    #[test]
    fn device_scope_is_every_group_scored_alone(case in batch(), mut settings in rewards()) {
        settings.scope = Scope::Device;
        let whole = case.score(&settings);
        let size = settings.group_samples as usize;
        let samples: Vec<usize> = (0..case.mos.len()).collect();
        let (mut reward, mut counts) = (Vec::new(), Counts::default());
        for group in samples.chunks(size) {
            let scored = case.with_samples(group).score(&settings);
            reward.extend(scored.reward);
            counts += scored.counts;
        }
        prop_assert_eq!(whole.reward, reward);
        prop_assert_eq!(whole.counts, counts);
    }
}
