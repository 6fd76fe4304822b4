//! `worker patches`.

use crate::failure::Failure;

/// Arguments of `worker patches`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("patches is being written"))
}
