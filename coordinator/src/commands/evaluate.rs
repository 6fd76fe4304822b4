//! `coordinator evaluate`.

use crate::failure::Failure;

/// Arguments of `coordinator evaluate`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `coordinator evaluate`.
///
/// # Errors
/// Always: it is not built in yet.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::other("evaluate is not built in yet"))
}
