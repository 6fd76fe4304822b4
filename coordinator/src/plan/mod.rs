//! From a recipe and its label files to what workers do: which samples a step sees, who works on what, what
//! responses are worth. Files are read once, at the start; after that nothing here has a clock, a random state
//! or I/O.

mod evaluation;
mod load;
mod policy;
mod recorded;
mod shares;
mod standing;
mod supervised;
#[cfg(test)]
mod tests;
mod worth;

use std::collections::{BTreeMap, BTreeSet};

use data::{Cursor, Draws, Occasion};
use settings::{Run, Stage, StageKind};

pub use evaluation::ScoredEvaluation;
pub use policy::ScoredRollouts;
pub use recorded::Recorded;
pub use standing::Standing;

use crate::engine::{Choice, Plan, Rank, UpdateWork};
use crate::journal::RolloutRow;
use shares::{share, wire_sample};

/// Why a step or an evaluation cannot be planned or scored.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The label files and the recipe do not fit: the user's to mend.
    #[error("stage {stage}: {source}")]
    Data {
        /// The stage's name.
        stage: String,
        /// What is wrong.
        source: data::Error,
    },
    /// A label file names a picture that is not there, or a stage needs what a label does not tell.
    #[error("stage {stage}: sample {sample:?}: {reason}")]
    Sample {
        /// The stage's name.
        stage: String,
        /// The sample's id.
        sample: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A worker's answer does not fit what it was asked.
    #[error("rank {rank}: sample {sample:?}: {reason}")]
    Answer {
        /// Who answered.
        rank: Rank,
        /// The sample's id.
        sample: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Rollouts came that nobody had asked for.
    #[error("rollouts came that were not asked for")]
    NothingAsked,
    /// The step or stage is not one of the recipe's.
    #[error("stage {0} is not in the recipe")]
    NoStage(usize),
    /// The batch cannot be scored.
    #[error("the batch cannot be scored: {0}")]
    Reward(#[from] reward::Error),
    /// The rewards give no advantages.
    #[error("the rewards give no advantages: {0}")]
    Advantage(#[from] grpo::Error),
}

impl PlanError {
    /// Of the coordinator: 2 where the user's input is wrong, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Data { .. } | Self::Sample { .. }) { 2 } else { 1 }
    }
}

/// One stage's data with its sampling plan.
#[derive(Debug)]
struct StageData {
    train: Vec<data::Sample>,
    validation: Vec<data::Sample>,
    test: Vec<data::Sample>,
    plan: data::Plan,
}

/// Says what every step and evaluation does, and scores what comes back.
#[derive(Debug)]
pub struct Planner {
    run: Run,
    stages: Vec<StageData>,
    /// What the last rollout's samples were asked; until they are scored.
    asked: Option<policy::Asked>,
    /// The last scored items, for further iterations on the same rollouts.
    scored: Option<policy::ScoredItems>,
    /// Of every stage's validation.
    standings: BTreeMap<usize, Standing>,
    /// Tokens that end a completion; none where the model does not say.
    end_tokens: BTreeSet<u32>,
    /// What every step trains on, instead of data.
    recorded: Option<Recorded>,
}

impl Planner {
    /// Reads every stage's label files, and checks that their pictures are there.
    ///
    /// # Errors
    /// On the first thing that is wrong with them.
    pub fn load(run: &Run) -> Result<Self, PlanError> {
        Self::with(run, load::Absent::Refused)
    }

    /// As [`Planner::load`], but with what the recipe declares in place of label files that are not there: for a dry
    /// run, never for training.
    ///
    /// # Errors
    /// As [`Planner::load`].
    pub fn outlook(run: &Run) -> Result<Self, PlanError> {
        Self::with(run, load::Absent::Declared)
    }

    fn with(run: &Run, absent: load::Absent) -> Result<Self, PlanError> {
        let mut run = run.clone();
        let stages = load::stages(&mut run, absent)?;
        Ok(Self {
            end_tokens: load::end_tokens(&run.model.path),
            run,
            stages,
            asked: None,
            scored: None,
            standings: BTreeMap::new(),
            recorded: None,
        })
    }

    /// A planner without data: every step of `run` trains on the same rollouts.
    #[must_use]
    pub fn recorded(run: &Run, rollouts: Recorded) -> Self {
        let recorded = Some(rollouts);
        Self {
            run: run.clone(),
            stages: Vec::new(),
            asked: None,
            scored: None,
            standings: BTreeMap::new(),
            end_tokens: BTreeSet::new(),
            recorded,
        }
    }

    /// How many steps before step `number` of a stage its responses are drawn: 0 but for further iterations.
    #[must_use]
    pub fn drawn_before(&self, stage: usize, number: u64) -> u64 {
        let stage = self.run.stages.get(stage).filter(|stage| stage.kind == StageKind::Prpo);
        stage.map_or(0, |stage| (number - 1) % u64::from(stage.objective.iterations.max(1)))
    }

    /// What step `number` (1 is the first) of a stage does, shared out to `world`. `before` is where the data plan
    /// stood after the step before it, as that step's record has it; `None` at the stage's beginning. Rollouts that
    /// are `recorded` for the step's prompts (all of them, or none) are not drawn again. Of the step's samples it holds
    /// those of `choice`; the data plan goes on as if it were all. Asked again for the same step it gives the same answer.
    ///
    /// # Errors
    /// If the stage is not one of the recipe's, a label does not tell what it needs, or records do not fit.
    pub fn plan(
        &mut self,
        stage: usize,
        number: u64,
        world: &[Rank],
        before: Option<&str>,
        (recorded, choice): (&[RolloutRow], &Choice),
    ) -> Result<Plan, PlanError> {
        let settings = self.stage(stage)?.clone();
        if let Some(recorded) = &self.recorded {
            return Ok(Plan::Update(recorded.update(&settings, number, world, choice)));
        }
        let iterations = u64::from(settings.objective.iterations.max(1));
        let iteration = self.drawn_before(stage, number);
        let drawn_at = number - iteration;
        let before: Cursor =
            before.map(serde_json::from_str).transpose().unwrap_or_default().unwrap_or_default();
        let step = self.stages[stage].plan.step(drawn_at, before);
        let last = settings.kind != StageKind::Prpo || iteration + 1 == iterations;
        let after = if last { step.next } else { before };
        let occasion = Occasion { seed: self.run.run.seed, stage: stage as u64, step: drawn_at };
        let train = &self.stages[stage].train;
        let compared = worth::compared(step.samples.iter().map(|i| &train[*i]), &settings.reward);
        let (places, compared): (Vec<usize>, Vec<usize>) =
            step.samples.iter().copied().zip(compared).filter(|(i, _)| choice.holds(&train[*i].id)).unzip();
        if places.is_empty() {
            return Ok(Plan::Update(nothing(&settings, number, after)));
        }
        let ids = || places.iter().map(|i| train[*i].id.as_str());
        if let Some(scored) = self.scored.as_ref().filter(|scored| scored.is_of(stage, drawn_at, ids())) {
            return Ok(Plan::Update(scored.update(&settings, number, after, world)));
        }
        let samples: Vec<(usize, proto::v1::Sample)> =
            places.iter().map(|i| (*i, wire_sample(&train[*i], &settings, occasion))).collect();
        match settings.kind {
            StageKind::Prpo => {
                let (mut asked, work) =
                    policy::ask((samples, compared), &settings, occasion, (number, after), world);
                let known = asked.recorded(recorded);
                self.asked = Some(asked);
                match known {
                    Some(rollouts) => Ok(self.score(rollouts)?.plan),
                    None => Ok(Plan::Rollout(work)),
                }
            }
            StageKind::Sft | StageKind::Vision => {
                supervised::update(&samples, train, &settings, number, step.next, world).map(Plan::Update)
            }
        }
    }

    /// The recipe, with the steps that its epochs are.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// A stage's training samples; none where there is no such stage.
    #[must_use]
    pub fn train(&self, stage: usize) -> &[data::Sample] {
        self.stages.get(stage).map_or(&[], |data| &data.train)
    }

    fn stage(&self, index: usize) -> Result<&Stage, PlanError> {
        self.run.stages.get(index).ok_or(PlanError::NoStage(index))
    }

    /// What there is to train on and to evaluate, a line a stage.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let line = |(stage, data): (&Stage, &StageData)| {
            let per_epoch = data.plan.steps_per_epoch();
            format!(
                "stage {}: {:?}, {} steps of {} samples; {} training samples ({per_epoch} steps an epoch), {} for \
                 validation, {} for test",
                stage.name,
                stage.kind,
                stage.steps,
                stage.parallel.samples_per_step,
                data.train.len(),
                data.validation.len(),
                data.test.len(),
            )
            .replace("Vision", "vision")
            .replace("Sft", "sft")
            .replace("Prpo", "prpo")
        };
        self.run.stages.iter().zip(&self.stages).map(line).collect()
    }
}

/// A step of which no sample is left: nothing to apply, and the data plan goes on.
fn nothing(stage: &Stage, number: u64, after: Cursor) -> UpdateWork {
    UpdateWork {
        lr: stage.optimizer.lr_at(number, stage.steps),
        counts: proto::v1::Counts::default(),
        items: BTreeMap::new(),
        samples: Vec::new(),
        cursor: supervised::cursor_text(after),
        metrics: BTreeMap::new(),
    }
}

/// The seed of a draw's stream for one sample on one occasion.
fn sample_seed(purpose: &str, occasion: Occasion, id: &str) -> u64 {
    Draws::new(purpose, &[occasion.seed, occasion.stage, occasion.step], id).number()
}

fn by_rank<T>(shares: Vec<Vec<T>>, world: &[Rank]) -> BTreeMap<Rank, Vec<T>> {
    world.iter().copied().zip(shares).collect()
}
