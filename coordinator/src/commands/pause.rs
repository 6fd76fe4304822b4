//! `coordinator pause`: holds a run between two activities, or lets it go on.

use proto::v1::PauseRequest;

use crate::client::Target;
use crate::failure::Failure;
use crate::tell;

/// Arguments of `coordinator pause`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Lets a held run go on.
    #[arg(long)]
    resume: bool,
}

/// Tells a coordinator.
///
/// # Errors
/// Wrong arguments or a refusal (2), or nobody answers (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let pause = !args.resume;
    let (address, _) = args.target.ask(async |client| client.pause(PauseRequest { pause }).await)?;
    tell::out(match pause {
        true => format!(
            "the run at {address} holds after what it does now; \"coordinator pause --resume\" lets it go on"
        ),
        false => format!("the run at {address} goes on"),
    })
}
