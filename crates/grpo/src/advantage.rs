//! From rewards to advantages, group by group.

use settings::Advantage;

/// Added to a group's standard deviation.
pub const ADVANTAGE_EPSILON: f64 = 1e-4;

/// Advantages of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Advantages {
    /// A `[groups · responses]`, group by group.
    pub values: Vec<f64>,
    /// Groups whose rewards are all equal: they carry no signal.
    pub zero_spread_groups: u64,
}

/// Rewards that are no whole number of groups, or no numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// K = 0, or a rest.
    #[error("{rewards} rewards are no whole number of groups of {responses}")]
    Groups {
        /// Rewards given.
        rewards: usize,
        /// K.
        responses: usize,
    },
    /// NaN or infinite.
    #[error("reward {index} is {value}: expected a finite number")]
    Reward {
        /// Its index, from 0.
        index: usize,
        /// What it is.
        value: f64,
    },
}

/// `(R − mean) / (std + 1e-4)` or `R − mean` within each group of K = `responses` (docs/method.md section 3).
///
/// The standard deviation is the unbiased one; that of a single response is 0. A group whose rewards are all
/// equal has advantages of exactly 0.
///
/// # Errors
/// If `rewards` are no whole number of groups, or one is not finite.
pub fn advantages(rewards: &[f64], responses: usize, kind: Advantage) -> Result<Advantages, Error> {
    if responses == 0 || !rewards.len().is_multiple_of(responses) {
        return Err(Error::Groups { rewards: rewards.len(), responses });
    }
    if let Some(index) = rewards.iter().position(|r| !r.is_finite()) {
        return Err(Error::Reward { index, value: rewards[index] });
    }
    let mut values = Vec::with_capacity(rewards.len());
    let mut zero_spread_groups = 0;
    for group in rewards.chunks(responses) {
        if group.iter().all(|&r| r == group[0]) {
            zero_spread_groups += 1;
            values.extend(group.iter().map(|_| 0.0));
            continue;
        }
        let mean = mean(group);
        let scale = match kind {
            Advantage::Std => spread(group) + ADVANTAGE_EPSILON,
            Advantage::MeanOnly => 1.0,
        };
        values.extend(group.iter().map(|r| (r - mean) / scale));
    }
    Ok(Advantages { values, zero_spread_groups })
}

/// Unbiased standard deviation of a group's rewards; 0 for fewer than two.
#[must_use]
pub fn spread(group: &[f64]) -> f64 {
    if group.len() < 2 {
        return 0.0;
    }
    let mean = mean(group);
    (group.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (group.len() - 1) as f64).sqrt()
}

fn mean(group: &[f64]) -> f64 {
    group.iter().sum::<f64>() / group.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn advantages_are_the_distance_from_the_mean_in_unbiased_standard_deviations() {
        let std = advantages(&[1.0, 2.0, 3.0], 3, Advantage::Std).expect("a group");
        assert_eq!(std.values, [-1.0 / 1.0001, 0.0, 1.0 / 1.0001]);
        let plain = advantages(&[1.0, 2.0, 3.0, 0.5, 1.5, 1.0], 3, Advantage::MeanOnly).expect("groups");
        assert_eq!(plain.values, [-1.0, 0.0, 1.0, -0.5, 0.5, 0.0]);
        assert_eq!(plain.zero_spread_groups, 0);
    }

    #[test]
    fn equal_rewards_have_no_advantage_and_are_counted() {
        let all = advantages(&[0.1, 0.1, 0.1, 0.1, 0.2, 0.3], 3, Advantage::Std).expect("groups");
        assert_eq!(all.values[..3], [0.0; 3]);
        assert_eq!(all.zero_spread_groups, 1);
        assert_eq!(advantages(&[2.0, 5.0], 1, Advantage::Std).expect("groups").zero_spread_groups, 2);
    }

    #[test]
    fn what_is_no_group_is_refused() {
        let groups = |rewards: &[f64], k| advantages(rewards, k, Advantage::Std).map_err(|e| e.to_string());
        assert_eq!(groups(&[1.0; 5], 3), Err("5 rewards are no whole number of groups of 3".into()));
        assert!(groups(&[], 0).is_err());
        assert_eq!(groups(&[1.0, f64::NAN], 2), Err("reward 1 is NaN: expected a finite number".into()));
    }

    proptest! {
        #[test]
        fn a_group_sums_to_zero_and_keeps_its_order(rewards in prop::collection::vec(-2.0f64..3.0, 2..9)) {
            for kind in [Advantage::Std, Advantage::MeanOnly] {
                let values = advantages(&rewards, rewards.len(), kind).expect("a group").values;
                prop_assert!(values.iter().sum::<f64>().abs() < 1e-9);
                for (i, a) in rewards.iter().enumerate() {
                    for (j, b) in rewards.iter().enumerate() {
                        prop_assert!(a <= b || values[i] >= values[j], "{i} {j}");
                    }
                }
            }
        }
    }
}
