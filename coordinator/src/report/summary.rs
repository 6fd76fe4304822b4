//! A run in a few numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use settings::StageKind;

use super::record::SetName;
use super::{CURVES, EvaluationLine, Facts, Lines, REPORT, series};
use crate::engine::{EvaluationSet, Moment};

/// What `summary.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run's name.
    pub name: String,
    /// The run's seed.
    pub seed: u64,
    /// Of the resolved recipe.
    pub digest: String,
    /// `finished`, `interrupted` or the failure's reason.
    pub outcome: String,
    /// Steps committed.
    pub steps: u64,
    /// Of them, those that were not applied.
    pub skipped: u64,
    /// Spent on steps and evaluations.
    pub seconds: f64,
    /// The stages whose start and end are compared: all `prpo` stages, else those of the last one's kind.
    pub compared: Vec<String>,
    /// Held-out numbers, a set each; sets that were never looked at are left out.
    pub sets: Vec<SetSummary>,
    /// Mean reward over the first and the last tenth of the compared stages' steps.
    pub training_reward: Option<Change>,
    /// Samples that were left out because workers died on them.
    #[serde(default)]
    pub quarantined: Vec<Quarantined>,
    /// Lines that could not be read back.
    pub unreadable: Vec<String>,
    /// Where to look on.
    pub files: Files,
}

/// A sample that was left out because workers died on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The manifest's id.
    pub sample: String,
    /// The step that it was found in.
    pub step: u64,
    /// The last loss over it.
    pub reason: String,
}

/// A held-out set before and after the compared stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetSummary {
    /// Which sets.
    #[serde(with = "SetName")]
    pub set: EvaluationSet,
    /// Before the first compared stage.
    pub before: Option<Point>,
    /// After the last compared stage; where a run ended early, the newest evaluation.
    pub after: Option<Point>,
}

/// An evaluation's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The newest step committed then.
    pub step: u64,
    /// How many samples were asked about.
    pub samples: u64,
    /// Name to value; only finite ones.
    pub metrics: BTreeMap<String, f64>,
}

/// A number that moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// How many steps each of the two is a mean of.
    pub steps: u64,
    /// At the start.
    pub before: f64,
    /// At the end.
    pub after: f64,
}

/// Where to look on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The page.
    pub report: PathBuf,
    /// The curves.
    pub curves: PathBuf,
    /// The newest evaluation's answers, if there was one.
    pub completions: Option<PathBuf>,
    /// The checkpoint to go on with, if there is one.
    pub checkpoint: Option<PathBuf>,
}

impl Summary {
    pub(super) fn of(run_folder: &Path, facts: &Facts, lines: &Lines) -> Self {
        let prpo = facts.stages.iter().any(|s| s.kind == StageKind::Prpo);
        let kind = if prpo { Some(StageKind::Prpo) } else { facts.stages.last().map(|s| s.kind) };
        let compared = |stage: usize| facts.stages.get(stage).is_none_or(|s| Some(s.kind) == kind);
        let completions = run_folder.join(super::COMPLETIONS);
        let seconds =
            lines.steps.iter().map(|s| s.seconds).chain(lines.evaluations.iter().map(|e| e.seconds));
        Self {
            name: facts.name.clone(),
            seed: facts.seed,
            digest: facts.digest.clone(),
            outcome: facts.outcome.clone(),
            steps: lines.steps.len() as u64,
            skipped: lines.steps.iter().filter(|s| s.skipped).count() as u64,
            seconds: seconds.filter(|s| s.is_finite()).fold(0.0, |a, b| (a + b).min(f64::MAX)),
            compared: facts.stages.iter().filter(|s| Some(s.kind) == kind).map(|s| s.name.clone()).collect(),
            sets: [EvaluationSet::Test, EvaluationSet::Validation]
                .into_iter()
                .filter_map(|set| SetSummary::of(set, lines, compared))
                .collect(),
            training_reward: training_reward(lines, compared),
            quarantined: facts.quarantined.clone(),
            unreadable: lines.unreadable.clone(),
            files: Files {
                report: run_folder.join(REPORT),
                curves: run_folder.join(CURVES),
                completions: completions.is_file().then_some(completions),
                checkpoint: facts.checkpoint.clone(),
            },
        }
    }

    /// The set whose answers are shown: the first that was looked at after training.
    pub(super) fn shown(&self) -> Option<&SetSummary> {
        self.sets.iter().find(|s| s.after.is_some()).or_else(|| self.sets.first())
    }
}

impl SetSummary {
    fn of(set: EvaluationSet, lines: &Lines, compared: impl Fn(usize) -> bool) -> Option<Self> {
        let of: Vec<&EvaluationLine> =
            lines.evaluations.iter().filter(|e| e.set == set && compared(e.stage)).collect();
        let before = of.iter().find(|e| e.moment == Moment::Before).map(|e| Point::of(e));
        let after = of.iter().rev().find(|e| e.moment != Moment::Before).map(|e| Point::of(e));
        (before.is_some() || after.is_some()).then_some(Self { set, before, after })
    }

    /// Names of all numbers that either has.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        [&self.before, &self.after].into_iter().flatten().flat_map(|p| p.metrics.keys().map(String::as_str))
    }

    /// A number before and after.
    pub(super) fn pair(&self, name: &str) -> (Option<f64>, Option<f64>) {
        let of = |point: &Option<Point>| point.as_ref().and_then(|p| p.metrics.get(name).copied());
        (of(&self.before), of(&self.after))
    }
}

impl Point {
    fn of(line: &EvaluationLine) -> Self {
        let finite = line.metrics.iter().filter(|(_, v)| v.is_finite());
        Self {
            step: line.step,
            samples: line.samples,
            metrics: finite.map(|(name, value)| (name.clone(), *value)).collect(),
        }
    }
}

fn training_reward(lines: &Lines, compared: impl Fn(usize) -> bool) -> Option<Change> {
    let rewards: Vec<f64> =
        lines.steps.iter().filter(|s| compared(s.stage)).filter_map(|s| series::value(s, "reward")).collect();
    let tenth = rewards.len().div_ceil(10);
    let mean = |part: &[f64]| part.iter().map(|v| v / part.len() as f64).sum();
    let (first, last) = (rewards.get(..tenth)?, rewards.get(rewards.len() - tenth..)?);
    (tenth > 0).then(|| Change { steps: tenth as u64, before: mean(first), after: mean(last) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{StageFacts, example};

    fn staged(kinds: &[StageKind]) -> Facts {
        let stages =
            kinds.iter().enumerate().map(|(i, kind)| StageFacts { name: format!("s{i}"), kind: *kind });
        Facts { stages: stages.collect(), ..example::facts() }
    }

    fn of(facts: &Facts, moments: &[(u64, usize, Moment)]) -> Summary {
        let line = |(step, stage, moment): &(u64, usize, Moment)| {
            let mut line = example::evaluation(*step, EvaluationSet::Validation, *moment);
            line.stage = *stage;
            line
        };
        let lines = Lines { evaluations: moments.iter().map(line).collect(), ..Lines::default() };
        Summary::of(Path::new("run"), facts, &lines)
    }

    fn steps(summary: &Summary) -> (Option<u64>, Option<u64>) {
        let set = &summary.sets[0];
        (set.before.as_ref().map(|p| p.step), set.after.as_ref().map(|p| p.step))
    }

    #[test]
    fn policy_stages_are_compared_from_the_first_ones_start_to_the_last_ones_end() {
        use Moment::{After, Before};
        let facts = staged(&[StageKind::Sft, StageKind::Prpo, StageKind::Prpo]);
        let moments =
            [(0, 0, Before), (5, 0, After), (5, 1, Before), (9, 1, After), (9, 2, Before), (12, 2, After)];
        let summary = of(&facts, &moments);
        assert_eq!(steps(&summary), (Some(5), Some(12)));
        assert_eq!(summary.compared, ["s1", "s2"]);
    }

    #[test]
    fn a_run_that_ended_early_shows_its_newest_evaluation() {
        let moments = [(0, 0, Moment::Before), (20, 0, Moment::During), (40, 0, Moment::During)];
        assert_eq!(steps(&of(&staged(&[StageKind::Prpo]), &moments)), (Some(0), Some(40)));
    }

    #[test]
    fn without_policy_stages_those_of_the_last_kind_are_compared() {
        let facts = staged(&[StageKind::Sft, StageKind::Vision]);
        assert_eq!(of(&facts, &[(7, 1, Moment::Before)]).compared, ["s1"]);
    }

    #[test]
    fn training_reward_is_of_the_first_and_last_tenth() {
        let steps = (1..=20).map(|s| {
            let mut line = example::step(s, 0);
            line.metrics.insert("reward".into(), s as f64);
            line
        });
        let lines = Lines { steps: steps.collect(), ..Lines::default() };
        let change = Summary::of(Path::new("run"), &example::facts(), &lines).training_reward;
        assert_eq!(change, Some(Change { steps: 2, before: 1.5, after: 19.5 }));
    }
}
