//! How parameters lie over ranks. A strategy is a file here; the engine knows the trait alone.

mod flat;
mod full;
mod gather;
mod hybrid;
mod optimizer;
mod piece;
mod place;
mod replicate;
mod shard;
mod slices;
mod slot;
#[cfg(test)]
mod tests;
mod weights;
mod widened;

use model::Params;
use settings::Optimizer;
use tch::Tensor;

pub(crate) use full::Full;
pub(crate) use hybrid::Hybrid;
pub(crate) use optimizer::Sliced;
pub(crate) use piece::{Piece, StateSource};
pub(crate) use place::Ranks;
pub use place::{Place, Seat};
pub(crate) use replicate::Replicate;
pub(crate) use slices::{Slice, Slices};
pub(crate) use weights::{Joined, Weights};
pub(crate) use widened::Widened;

use crate::Error;
use crate::blocks::BlockId;

/// Takes a weight by its name, whole; what it says ends the walk.
pub(crate) type Take<'a> = dyn FnMut(&str, Tensor) -> Result<(), Error> + 'a;

/// Holds weights, masters, moments and gradients; the engine asks for parameters and gives gradients back.
///
/// A step is `reset`, then for every link of every micro-batch `announce`, `params` and `accumulate`, with
/// `reduce_above` as blocks are finished, then `finish`, then `apply` or nothing. Whatever takes [`Ranks`] may be a
/// collective: all ranks make these calls for the same blocks in the same order, also where they have no samples.
pub(crate) trait Sharding {
    /// Whether a parameter is trained; frozen ones have no master, no moments and no gradient.
    fn trains(&self, name: &str) -> bool;

    /// Whether there is such a parameter.
    fn has(&self, name: &str) -> bool;

    /// Says which parameters come next, a list a link: what is gathered for them starts to travel, and what was
    /// gathered for others is let go: it is not read before [`Sharding::params`] has given it again.
    ///
    /// # Errors
    /// If a name is unknown, or the collective refuses.
    fn announce(&mut self, next: &[&[String]], ranks: &Ranks<'_>) -> Result<(), Error>;

    /// Parameters in compute type, without gradient tracking, for one link of the forward or backward pass.
    ///
    /// # Errors
    /// If a name is unknown, or (where they are gathered) the collective fails.
    fn params(&mut self, names: &[String], ranks: &Ranks<'_>) -> Result<Params, Error>;

    /// Lets go of what was gathered, also for a rollout.
    fn release(&mut self);

    /// Brings every parameter here, for [`Sharding::all_params`], until the next step or `release`.
    ///
    /// # Errors
    /// If the collective fails.
    fn gather_all(&mut self, ranks: &Ranks<'_>) -> Result<(), Error>;

    /// Every parameter in compute type, without gradient tracking: the rollout's weights. After `gather_all`;
    /// without it only those that this rank holds anyway.
    fn all_params(&self) -> &Params;

    /// Sets the accumulated gradients to zero. Buffers that a failed reduction may still write to are replaced.
    fn reset(&mut self);

    /// Adds a micro-batch's gradient of a trained parameter, in f32; of a frozen one, nothing happens.
    fn accumulate(&mut self, name: &str, gradient: &Tensor);

    /// A micro-batch is through with every block after `last_open` (with all blocks without it); in the step's
    /// `last` one, no gradient of theirs may be accumulated any more. Starts to sum what can be summed over ranks.
    ///
    /// # Errors
    /// If the collective refuses.
    fn reduce_above(
        &mut self,
        last_open: Option<BlockId>,
        last: bool,
        ranks: &Ranks<'_>,
    ) -> Result<(), Error>;

    /// Waits for the sums and takes the norm.
    ///
    /// # Errors
    /// If a block was never begun, or the collective fails.
    fn finish(&mut self, ranks: &Ranks<'_>) -> Result<(), Error>;

    /// Norm of the whole gradient, every parameter counted once, the same bits on every rank; after `finish`.
    fn norm(&self) -> f64;

    /// One optimizer step with `factor` times the summed gradient. Free of collectives.
    fn apply(&mut self, optimizer: &Optimizer, lr: f64, factor: f64);

    /// Digest over the weights of which this rank is the owner (masters where there are any), in the order of their
    /// names; ranks that own the same ones agree.
    fn digest(&mut self) -> String;

    /// Which part of the weights this rank owns, and of how many.
    fn part(&self) -> Place;

    /// Whether no rank before this one owns the same part: of all copies, the first writes.
    fn is_first_copy(&self) -> bool {
        true
    }

    /// The summed (or so far accumulated) gradient of a trained parameter, f32, in its own shape, where this rank
    /// holds all of it.
    fn gradient(&self, name: &str) -> Option<Tensor>;

    /// Hands out the weights that are exported, masters where there are any, whole, block by block: no more than
    /// one block is gathered at a time.
    ///
    /// # Errors
    /// If the collective fails, or `take` does.
    fn each_weight(&mut self, ranks: &Ranks<'_>, take: &mut Take<'_>) -> Result<(), Error>;

    /// What going on needs besides [`Sharding::steps`]: masters and moments of the trained, values of the frozen, as
    /// far as this rank owns them. Views: who writes to them changes the state, and calls `refresh` after it.
    fn pieces(&self) -> Vec<Piece>;

    /// What this rank alone owns, and what all have alike, as views; nothing where every rank owns everything.
    fn slices(&self) -> Slices {
        Slices::default()
    }

    /// Optimizer steps taken.
    fn steps(&self) -> u64;

    /// Takes up a state that was written into `pieces`.
    fn refresh(&mut self, steps: u64);
}
