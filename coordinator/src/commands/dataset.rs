//! `coordinator dataset`.

use crate::failure::Failure;

/// Arguments of `coordinator dataset`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `coordinator dataset`.
///
/// # Errors
/// Always: it is not built in yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("dataset is not built in yet"))
}
