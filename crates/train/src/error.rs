//! What can go wrong in a step, besides a gradient that is not finite.

use std::path::PathBuf;

use crate::blocks::BlockId;
use crate::sharding::Seat;

/// Why a step could not be prepared, or a state could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A collective failed; the step must be discarded.
    #[error(transparent)]
    Collective(#[from] collective::Error),
    /// A name that is none of the model's.
    #[error("{name:?} is no parameter of the model: expected visual.…, model.… or lm_head.…")]
    UnknownParameter {
        /// The name.
        name: String,
    },
    /// The sum of a block's gradient was waited for before it was begun.
    #[error("the gradient of {block} was not reduced before it was used")]
    NotReduced {
        /// The block.
        block: BlockId,
    },
    /// A group other than the one that the weights are cut for.
    #[error(
        "the group has this process as {here}, the weights are cut for {own}: load the last checkpoint to change \
         the world"
    )]
    OtherWorld {
        /// In the group.
        here: Seat,
        /// Of the weights.
        own: Seat,
    },
    /// State that no single rank has.
    #[error(
        "one rank cannot give its state to all where sharding is {sharding:?}: each holds a slice; load a checkpoint"
    )]
    NotWhole {
        /// As the stage says.
        sharding: settings::Sharding,
    },
    /// A rank is to give another what that one owned, and does not have it.
    #[error("this rank keeps no mirror of what another owned: load a checkpoint")]
    NotMirrored,
    /// The rank that gives its state is in another stage, or trains something else.
    #[error(
        "the state that a rank gives has other sizes than this rank's (tensors and values, of the weights and of the \
         reference): {given:?}, expected {own:?}"
    )]
    OtherState {
        /// This rank's.
        own: Vec<i64>,
        /// Of the rank that gives.
        given: Vec<i64>,
    },
    /// A commit without a prepared step.
    #[error("no step is prepared: commit follows prepare")]
    NotPrepared,
    /// Adapters that do not fit the model or its stage.
    #[error("{0}")]
    Adapters(String),
    /// An item that the stage's kind does not train on.
    #[error("item {index} is {found}, a {stage} stage trains on {expected}")]
    WrongItem {
        /// Position in the step.
        index: usize,
        /// What it is.
        found: &'static str,
        /// The stage's kind.
        stage: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// An item whose parts do not fit together.
    #[error("item {index}: {reason}")]
    BadItem {
        /// Position in the step.
        index: usize,
        /// What is wrong: found and expected.
        reason: String,
    },
    /// A saved state lacks a tensor.
    #[error("the saved state has no {name:?}: it belongs to another model or stage")]
    StateMissing {
        /// The tensor.
        name: String,
    },
    /// A saved state has a tensor too many.
    #[error("the saved state has {name:?}, which this stage does not: it belongs to another model or stage")]
    StateUnknown {
        /// The tensor.
        name: String,
    },
    /// The files of a saved state are not whole.
    #[error("{}: {reason}, expected a saved training state", folder.display())]
    StateFiles {
        /// Where they were looked for.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A saved state is another optimizer's.
    #[error(
        "{}: optimizer.{key} was {was} when this state was saved, it is {is}: its moments are of no use with that; \
         set it to {was}, or start from the weights alone",
        folder.display()
    )]
    StateOptimizer {
        /// Where the state lies.
        folder: PathBuf,
        /// The key.
        key: String,
        /// As saved.
        was: String,
        /// As this stage has it.
        is: String,
    },
    /// A saved tensor has another shape or type.
    #[error("saved {name:?} is {found}, expected {expected}")]
    StateShape {
        /// The tensor.
        name: String,
        /// As saved.
        found: String,
        /// As this stage has it.
        expected: String,
    },
    /// A checkpoint could not be written.
    #[error(transparent)]
    Publish(#[from] checkpoint::PublishError),
    /// A checkpoint could not be read.
    #[error(transparent)]
    Weights(#[from] checkpoint::weights::WeightError),
}
