//! `coordinator status`: what a run is doing.

use std::path::PathBuf;

use crate::failure::Failure;

/// Arguments of `coordinator status`.
#[derive(clap::Args)]
pub struct Args {
    /// The coordinator's address, host:port.
    #[arg(long, value_name = "A", conflicts_with = "output")]
    pub address: Option<String>,
    /// The run folder, whose `address` file says where its coordinator listens.
    #[arg(long, value_name = "RUNDIR")]
    pub output: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// Asks a coordinator and prints what it says.
///
/// # Errors
/// Wrong arguments (2), or nobody answers (1).
pub fn run(args: Args) -> Result<(), Failure> {
    let _ = args;
    Err(Failure::other("status is not built in yet"))
}
