//! The learning rate over a stage's steps.

use std::f64::consts::PI;

use crate::{Optimizer, Schedule};

impl Optimizer {
    /// Learning rate of optimizer step `step` (1 is the first) in a stage of `total` steps.
    ///
    /// The warm-up rises in a line and reaches the peak on its last step; from there the rate stays, or falls
    /// so that a step after the last would have 0, as transformers' linear and cosine schedules do. Past
    /// `total` the falling schedules stay at 0.
    #[must_use]
    pub fn lr_at(&self, step: u64, total: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup_steps {
            return self.lr * (done + 1) as f64 / self.warmup_steps as f64;
        }
        let falling = total.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((done - self.warmup_steps) as f64 / falling).min(1.0);
        self.lr
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - progress,
                Schedule::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, warmup_steps: u64, total: u64) -> Vec<f64> {
        let optimizer = Optimizer { lr: 1.0, schedule, warmup_steps, ..Optimizer::default() };
        (1..=total).map(|step| optimizer.lr_at(step, total)).collect()
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_peak() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            assert_eq!(rates(schedule, 0, 4)[0], 1.0);
        }
    }

    #[test]
    fn linear_falls_in_equal_steps_and_never_trains_at_zero() {
        assert_eq!(rates(Schedule::Linear, 0, 4), [1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn warm_up_reaches_the_peak_on_its_last_step_and_the_fall_begins_there() {
        assert_eq!(rates(Schedule::Linear, 2, 4), [0.5, 1.0, 1.0, 0.5]);
        assert_eq!(rates(Schedule::Constant, 2, 4), [0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn cosine_is_half_way_down_in_the_middle() {
        let rates = rates(Schedule::Cosine, 0, 4);
        assert!((rates[2] - 0.5).abs() < 1e-12 && rates[3] > 0.0, "{rates:?}");
    }

    #[test]
    fn no_schedule_leaves_the_range_for_any_step_and_length() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            let optimizer = Optimizer { lr: 1.0, schedule, warmup_steps: 3, ..Optimizer::default() };
            for step in 0..20 {
                for total in 0..10 {
                    assert!((0.0..=1.0).contains(&optimizer.lr_at(step, total)));
                }
            }
        }
    }
}
