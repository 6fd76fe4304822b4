//! `worker generate`.

use crate::failure::Failure;

/// Arguments of `worker generate`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("generate is being written"))
}
