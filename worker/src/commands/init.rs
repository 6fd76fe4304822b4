//! `worker init`.

use crate::failure::Failure;

/// Arguments of `worker init`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("init is being written"))
}
