//! `worker serve`.

use crate::failure::Failure;

/// Arguments of `worker serve`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("serve is being written"))
}
