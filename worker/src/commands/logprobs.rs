//! `worker logprobs`.

use crate::failure::Failure;

/// Arguments of `worker logprobs`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("logprobs is being written"))
}
