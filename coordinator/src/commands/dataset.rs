//! `coordinator dataset`.

use clap::Subcommand;

use crate::dataset::{check, synthesize};
use crate::failure::Failure;

/// Arguments of `coordinator dataset`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Makes a data set with proxy labels from photographs: KADID-10k's distortions at its levels.
    Synthesize(Box<synthesize::Args>),
    /// Lists what is missing, unreadable, named twice, out of range or in two splits.
    Check(check::Args),
}

/// Runs `coordinator dataset`.
///
/// # Errors
/// As the subcommand.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Synthesize(args) => synthesize::run(&args),
        What::Check(args) => check::run(&args),
    }
}
