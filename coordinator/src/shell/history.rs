//! What happened, as lines for people and scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::{EvaluationRecord, EvaluationSet, StepRecord};
use crate::folder::RunFolder;
use crate::report::{AnswerLine, Error, EvaluationLine, StepLine, Writer};
use crate::terms::Clock;

/// Sums that a step reports, and what each is divided by to be a mean.
const MEANS: [(&str, &str); 10] = [
    ("kl", "tokens"),
    ("clipped", "tokens"),
    ("ratio", "tokens"),
    ("entropy", "tokens"),
    ("importance", "tokens"),
    ("logprob_gap", "tokens"),
    ("kind_loss", "pictures"),
    ("level_loss", "pictures"),
    ("quality_error", "pictures"),
    ("kind_right", "pictures"),
];

/// Writes the run's lines as it goes.
pub(super) struct History {
    writer: Writer,
    clock: Clock,
    step_began: Duration,
    evaluation_began: Duration,
    /// Asked about in the evaluation that is being scored.
    samples: u64,
}

impl History {
    pub(super) fn begin(folder: &RunFolder, clock: Clock) -> Result<Self, Error> {
        let now = clock.now();
        let writer = Writer::create(folder.root())?;
        Ok(Self { writer, clock, step_began: now, evaluation_began: now, samples: 0 })
    }

    pub(super) fn step_begins(&mut self) {
        self.step_began = self.clock.now();
    }

    pub(super) fn evaluation_begins(&mut self) {
        self.evaluation_began = self.clock.now();
    }

    pub(super) fn step(&mut self, record: &StepRecord) -> Result<StepLine, Error> {
        let mut metrics = means(&record.metrics);
        let mut take = |name: &str| metrics.remove(name).unwrap_or(f64::NAN);
        let line = StepLine {
            step: record.step,
            stage: record.stage,
            number: record.number,
            lr: record.lr,
            loss: take("loss"),
            grad_norm: take("grad_norm"),
            finite: !record.skip,
            skipped: record.skip,
            seconds: self.since(self.step_began),
            metrics,
        };
        self.writer.step(&line)?;
        Ok(line)
    }

    /// Seconds.
    fn since(&self, then: Duration) -> f64 {
        self.clock.now().saturating_sub(then).as_secs_f64()
    }

    pub(super) fn answers(
        &mut self,
        set: EvaluationSet,
        step: u64,
        samples: u64,
        answers: &[AnswerLine],
    ) -> Result<(), Error> {
        self.samples = samples;
        self.writer.completions(set, step, answers).map(|_| ())
    }

    pub(super) fn evaluation(&mut self, record: &EvaluationRecord) -> Result<EvaluationLine, Error> {
        let line = EvaluationLine {
            step: record.step,
            stage: record.stage,
            set: record.set,
            moment: record.moment,
            samples: self.samples,
            metrics: record.metrics.clone(),
            seconds: self.since(self.evaluation_began),
        };
        self.writer.evaluation(&line)?;
        Ok(line)
    }
}

/// Sums over tokens or pictures become means; the rest stays.
fn means(metrics: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut means = metrics.clone();
    for (name, by) in MEANS {
        if let (Some(sum), Some(count)) = (metrics.get(name), metrics.get(by).filter(|n| **n > 0.0)) {
            means.insert(name.into(), sum / count);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_tokens_become_means_and_other_numbers_stay() {
        let metrics = BTreeMap::from([("kl", 6.0), ("tokens", 3.0), ("reward", 1.5), ("kind_right", 2.0)]);
        let metrics = metrics.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        let means = means(&metrics);
        assert_eq!(
            (means["kl"], means["tokens"], means["reward"], means["kind_right"]),
            (2.0, 3.0, 1.5, 2.0)
        );
    }
}
