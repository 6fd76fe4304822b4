//! `coordinator rewards`.

use crate::failure::Failure;

/// Arguments of `coordinator rewards`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `coordinator rewards`.
///
/// # Errors
/// Always: it is not built in yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("rewards is not built in yet"))
}
