//! Where a stage's validation stands: its best evaluation, and whether more steps are worth their time.

use std::collections::BTreeMap;

use settings::EarlyStop;

/// The evaluations of a stage so far: step to SRCC on the validation sets, none where it was undefined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing(BTreeMap<u64, Option<f64>>);

impl Standing {
    /// Notes an evaluation after `step`; noted again, the later counts.
    pub fn note(&mut self, step: u64, srcc: Option<f64>) {
        self.0.insert(step, srcc);
    }

    /// The step of the best evaluation, the first of equals; none where no SRCC was defined.
    #[must_use]
    pub fn best(&self) -> Option<u64> {
        let mut best: Option<(u64, f64)> = None;
        for (step, srcc) in &self.0 {
            if let Some(srcc) = srcc
                && best.is_none_or(|(_, most)| *srcc > most)
            {
                best = Some((*step, *srcc));
            }
        }
        best.map(|(step, _)| step)
    }

    /// Why the stage has nothing more to gain, where that is so: the last `patience` evaluations did not gain
    /// `min_gain` over the best before them.
    #[must_use]
    pub fn stop(&self, settings: Option<EarlyStop>) -> Option<String> {
        let EarlyStop { patience, min_gain } = settings?;
        let (mut best, mut at, mut without) = (f64::NEG_INFINITY, 0, 0);
        for (step, srcc) in &self.0 {
            let srcc = srcc.unwrap_or(f64::NEG_INFINITY);
            if srcc > best && (best == f64::NEG_INFINITY || srcc - best >= min_gain) {
                (best, at, without) = (srcc, *step, 0);
            } else {
                without += 1;
            }
        }
        (without >= patience).then(|| {
            format!(
                "{without} evaluations in a row gained less than {min_gain} over SRCC {best:.4} at step {at}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(values: &[f64]) -> Standing {
        let mut standing = Standing::default();
        for (i, value) in values.iter().enumerate() {
            standing.note(10 * i as u64, value.is_finite().then_some(*value));
        }
        standing
    }

    #[test]
    fn the_best_evaluation_is_the_first_of_equals_and_undefined_ones_are_none() {
        assert_eq!(standing(&[0.3, 0.5, 0.5, 0.4]).best(), Some(10));
        assert_eq!(standing(&[f64::NAN, 0.1]).best(), Some(10));
        assert_eq!(standing(&[f64::NAN]).best(), None);
    }

    #[test]
    fn a_stage_ends_after_as_many_evaluations_without_a_gain_as_patience_says() {
        let stop = EarlyStop { patience: 2, min_gain: 0.01 };
        let stops = |values: &[f64]| standing(values).stop(Some(stop)).is_some();
        assert!(!stops(&[0.3, 0.4, 0.5]) && !stops(&[0.3, 0.31]) && !stops(&[0.3, 0.305]));
        assert!(stops(&[0.3, 0.305, 0.309]), "small gains do not add up");
        assert!(!stops(&[0.3, 0.305, 0.311]), "but a gain over the best does");
        assert!(stops(&[0.5, 0.4, f64::NAN]));
        assert_eq!(standing(&[0.5, 0.4, 0.4]).stop(None), None);
        let said = standing(&[0.5, 0.4, 0.4]).stop(Some(stop)).expect("stops");
        assert_eq!(said, "2 evaluations in a row gained less than 0.01 over SRCC 0.5000 at step 0");
    }
}
