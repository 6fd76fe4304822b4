//! How parameters lie over ranks. A strategy is a file here; the engine knows the trait alone.

mod replicate;
mod slot;

use std::collections::BTreeMap;
use std::time::Duration;

use collective::Group;
use model::Params;
use settings::Optimizer;
use tch::Tensor;

pub use replicate::Replicate;

use crate::Error;
use crate::blocks::BlockId;

/// Holds weights, masters, moments and gradients; the engine asks for parameters and gives gradients back.
///
/// A step is `reset`, then `params` and `accumulate` for every link of every micro-batch, with `reduce_above`
/// as blocks are finished, then `finish`, then `apply` or nothing.
pub trait Sharding {
    /// Whether a parameter is trained; frozen ones have no master, no moments and no gradient.
    fn trains(&self, name: &str) -> bool;

    /// Parameters in compute type, without gradient tracking, for one link of the forward or backward pass.
    ///
    /// # Errors
    /// If a name is unknown, or (where they are gathered) the collective fails.
    fn params(&mut self, names: &[String]) -> Result<Params, Error>;

    /// Every parameter in compute type, without gradient tracking: the rollout's weights.
    fn all_params(&self) -> &Params;

    /// Sets the accumulated gradients to zero. Buffers that a failed reduction may still write to are replaced.
    fn reset(&mut self);

    /// Adds a micro-batch's gradient of a trained parameter, in f32; of a frozen one, nothing happens.
    fn accumulate(&mut self, name: &str, gradient: &Tensor);

    /// Starts summing over ranks the gradients of every block after `last_open` (of all blocks without it) whose
    /// summing has not begun, last block first. No gradient of theirs may be accumulated any more. All ranks
    /// begin the same blocks in the same order, also where they have no samples.
    ///
    /// # Errors
    /// If the collective refuses.
    fn reduce_above(&mut self, last_open: Option<BlockId>, group: &dyn Group) -> Result<(), Error>;

    /// Waits for the sums, each at most `timeout`.
    ///
    /// # Errors
    /// If a block was never begun, or the collective fails.
    fn finish(&mut self, timeout: Duration) -> Result<(), Error>;

    /// Norm of the whole gradient, every parameter counted once; after `finish`.
    fn norm(&self) -> f64;

    /// One optimizer step with `factor` times the summed gradient, and fresh compute copies. Free of collectives.
    fn apply(&mut self, optimizer: &Optimizer, lr: f64, factor: f64);

    /// Digest over all weights, masters where there are any, in the order of their names.
    fn digest(&mut self) -> String;

    /// The summed (or so far accumulated) gradient of a trained parameter, f32, in its own shape.
    fn gradient(&self, name: &str) -> Option<Tensor>;

    /// The weights that are exported: masters where there are any, else compute copies, by name.
    fn weights(&self) -> BTreeMap<String, Tensor>;

    /// What going on needs, by name: masters and moments of the trained, values of the frozen, the step count.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Takes back what [`Sharding::state`] gave, under the same names and shapes.
    ///
    /// # Errors
    /// If a tensor is missing or misshapen; nothing is changed then.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Error>;
}
