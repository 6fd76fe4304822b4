//! The recipe as its file has it.
//!
//! Every key of a stage but its name may also stand at the top, where it is the default of all stages. The
//! types here are what is left once those have been laid under each stage.

use serde::Deserialize;

use crate::run::{Identity, Run, Stage, StageKind};
use crate::sections::{
    Checkpoint, Data, Evaluation, Fault, Lora, Model, Objective, Optimizer, Parallel, Recovery, Reward,
    Rollout, Supervised, Trainable,
};
use crate::shape::{Field, Shape};

/// What stands once in a recipe, and its stages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRun {
    run: Identity,
    model: Model,
    #[serde(default)]
    recovery: Recovery,
    #[serde(default)]
    checkpoint: Checkpoint,
    #[serde(default)]
    stages: Vec<RawStage>,
    #[serde(default)]
    faults: Vec<Fault>,
}

/// A stage's keys, over the base sections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStage {
    name: String,
    steps: Option<u64>,
    #[serde(default = "prpo")]
    kind: StageKind,
    #[serde(default)]
    model: StageModel,
    #[serde(default)]
    data: Data,
    #[serde(default)]
    rollout: Rollout,
    #[serde(default)]
    reward: Reward,
    #[serde(default)]
    objective: Objective,
    #[serde(default)]
    supervised: Supervised,
    #[serde(default)]
    optimizer: Optimizer,
    #[serde(default)]
    parallel: Parallel,
    #[serde(default)]
    evaluation: Evaluation,
}

/// What a stage may change of `model:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StageModel {
    trainable: Trainable,
    lora: Lora,
}

fn prpo() -> StageKind {
    StageKind::Prpo
}

/// The keys of a recipe file.
pub(crate) fn recipe_shape() -> Shape {
    let mut fields = Shape::of::<RawRun>().fields().to_vec();
    for field in Shape::of::<RawStage>().fields() {
        if field.name != "name" && field.name != "model" {
            fields.push(Field { required: false, ..field.clone() });
        }
    }
    Shape::Struct(fields)
}

/// The keys of a stage.
pub(crate) fn stage_shape() -> Shape {
    Shape::of::<RawStage>()
}

impl From<RawRun> for Run {
    fn from(raw: RawRun) -> Self {
        Self {
            run: raw.run,
            model: raw.model,
            recovery: raw.recovery,
            checkpoint: raw.checkpoint,
            stages: raw.stages.into_iter().map(Stage::from).collect(),
            faults: raw.faults,
        }
    }
}

impl From<RawStage> for Stage {
    fn from(raw: RawStage) -> Self {
        Self {
            name: raw.name,
            steps: raw.steps.unwrap_or(0),
            kind: raw.kind,
            trainable: raw.model.trainable,
            lora: raw.model.lora,
            data: raw.data,
            rollout: raw.rollout,
            reward: raw.reward,
            objective: raw.objective,
            supervised: raw.supervised,
            optimizer: raw.optimizer,
            parallel: raw.parallel,
            evaluation: raw.evaluation,
        }
    }
}
