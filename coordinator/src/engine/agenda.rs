//! What a run does after what: stages, steps, evaluations, checkpoints, in one order that depends on the
//! recipe alone.

use std::fmt;

use serde::{Deserialize, Serialize};
use settings::{Run, Sharding};

/// A stage as the agenda sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSpec {
    /// Unique within the run.
    pub name: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Steps between evaluations on the validation sets; 0: only before and after the stage.
    pub evaluate_every: u64,
    /// Steps between checkpoints; 0: only at the stage's end.
    pub checkpoint_every: u64,
    /// There are validation sets.
    pub validation: bool,
    /// The test sets are looked at before the stage.
    pub test_before: bool,
    /// The test sets are looked at after the stage.
    pub test_after: bool,
    /// Non-finite steps in a row after which the run stops.
    pub max_consecutive_skips: u32,
    /// No rank holds all masters.
    pub sharded: bool,
}

impl StageSpec {
    /// The stages of a recipe. The test sets are looked at twice: at the end, and at the start of the first
    /// stage of the last one's kind, so that both numbers are of the same thing.
    #[must_use]
    pub fn all(run: &Run) -> Vec<Self> {
        let last = run.stages.len().saturating_sub(1);
        let end = run.stages.last().map(|s| s.kind);
        let first = run.stages.iter().position(|s| Some(s.kind) == end).unwrap_or(0);
        run.stages
            .iter()
            .enumerate()
            .map(|(i, stage)| Self {
                name: stage.name.clone(),
                steps: stage.steps,
                evaluate_every: stage.evaluation.every,
                checkpoint_every: run.checkpoint.every,
                validation: !stage.data.validation.is_empty(),
                test_before: i == first && !stage.data.test.is_empty(),
                test_after: i == last && !stage.data.test.is_empty(),
                max_consecutive_skips: stage.optimizer.max_consecutive_skips,
                sharded: stage.parallel.sharding != Sharding::Replicate,
            })
            .collect()
    }
}

/// Which held-out sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationSet {
    /// Chooses checkpoints.
    Validation,
    /// Looked at twice a run.
    Test,
}

impl fmt::Display for EvaluationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// When in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before its first step.
    Before,
    /// Between its steps.
    During,
    /// After its last step.
    After,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

/// One thing that the whole world does together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Load or keep the weights, a fresh optimizer.
    BeginStage {
        /// Index of the stage.
        stage: usize,
    },
    /// Answer held-out questions.
    Evaluate {
        /// Index of the stage.
        stage: usize,
        /// Steps of the stage done.
        done: u64,
        /// Which sets.
        set: EvaluationSet,
        /// When in the stage.
        moment: Moment,
    },
    /// An optimizer step.
    Step {
        /// Index of the stage.
        stage: usize,
        /// Within the stage; 1 is the first.
        number: u64,
    },
    /// Weights go to disk.
    Checkpoint {
        /// Index of the stage.
        stage: usize,
        /// Steps of the stage done.
        done: u64,
        /// A stage's end is never removed by `keep`.
        stage_end: bool,
    },
    /// Nothing is left to do.
    Finish,
}

impl Activity {
    /// The run's first activity.
    #[must_use]
    pub fn first(stages: &[StageSpec]) -> Self {
        if stages.is_empty() { Self::Finish } else { Self::BeginStage { stage: 0 } }
    }

    /// What comes after this one.
    #[must_use]
    pub fn next(self, stages: &[StageSpec]) -> Self {
        let mut activity = self.successor(stages);
        while !activity.applies(stages) {
            activity = activity.successor(stages);
        }
        activity
    }

    /// The stage that it belongs to; `None` for [`Activity::Finish`].
    #[must_use]
    pub fn stage(self) -> Option<usize> {
        match self {
            Self::BeginStage { stage }
            | Self::Evaluate { stage, .. }
            | Self::Step { stage, .. }
            | Self::Checkpoint { stage, .. } => Some(stage),
            Self::Finish => None,
        }
    }

    /// The next slot of the full order, whether the recipe fills it or not.
    fn successor(self, stages: &[StageSpec]) -> Self {
        use EvaluationSet::{Test, Validation};
        use Moment::{After, Before, During};
        let steps = |stage: usize| stages.get(stage).map_or(0, |s| s.steps);
        let evaluate = |stage, done, set, moment| Self::Evaluate { stage, done, set, moment };
        match self {
            Self::BeginStage { stage } => evaluate(stage, 0, Validation, Before),
            Self::Evaluate { stage, set: Validation, moment: Before, .. } => evaluate(stage, 0, Test, Before),
            Self::Evaluate { stage, moment: Before, .. } if steps(stage) == 0 => {
                Self::Checkpoint { stage, done: 0, stage_end: true }
            }
            Self::Evaluate { stage, moment: Before, .. } => Self::Step { stage, number: 1 },
            Self::Step { stage, number } if number >= steps(stage) => {
                Self::Checkpoint { stage, done: number, stage_end: true }
            }
            Self::Step { stage, number } => evaluate(stage, number, Validation, During),
            Self::Evaluate { stage, done, moment: During, .. } => {
                // An evaluation may have ended its stage early.
                Self::Checkpoint { stage, done, stage_end: done >= steps(stage) }
            }
            Self::Checkpoint { stage, done, stage_end: false } => Self::Step { stage, number: done + 1 },
            Self::Checkpoint { stage, done, stage_end: true } => evaluate(stage, done, Validation, After),
            Self::Evaluate { stage, done, set: Validation, moment: After } => {
                evaluate(stage, done, Test, After)
            }
            Self::Evaluate { stage, moment: After, .. } if stage + 1 < stages.len() => {
                Self::BeginStage { stage: stage + 1 }
            }
            Self::Evaluate { moment: After, .. } | Self::Finish => Self::Finish,
        }
    }

    fn applies(self, stages: &[StageSpec]) -> bool {
        let due = |every: u64, done: u64| every > 0 && done.is_multiple_of(every);
        let Some(spec) = self.stage().and_then(|s| stages.get(s)) else { return true };
        match self {
            Self::Evaluate { set: EvaluationSet::Test, moment: Moment::Before, .. } => spec.test_before,
            Self::Evaluate { set: EvaluationSet::Test, .. } => spec.test_after,
            Self::Evaluate { moment: Moment::During, done, .. } => {
                spec.validation && due(spec.evaluate_every, done)
            }
            Self::Evaluate { .. } => spec.validation,
            Self::Checkpoint { stage_end: false, done, .. } => due(spec.checkpoint_every, done),
            _ => true,
        }
    }
}
