//! One process a device: a session with the coordinator and the step pipeline, and tools on one model.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use worker::commands::{frames, generate, infer, init, logprobs, patches, serve, update};
use worker::failure::Failure;
use worker::heap;

/// Computes what a coordinator asks for. Without a subcommand it joins a run.
#[derive(Parser)]
#[command(name = "worker", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<serve::Args>,
}

#[derive(Subcommand)]
enum Command {
    /// Log-probabilities of given completions, and their gradients.
    Logprobs(logprobs::Args),
    /// Responses to requests.
    Generate(generate::Args),
    /// One optimizer step from recorded rollouts.
    Update(update::Args),
    /// Pictures as the model takes them.
    Patches(patches::Args),
    /// A video's mosaic and single frames.
    Frames(frames::Args),
    /// Scores of pictures and videos.
    Infer(infer::Args),
    /// A fresh checkpoint from a model's configuration.
    Init(init::Args),
}

fn main() -> ExitCode {
    heap::keep_freed_memory();
    #[cfg(feature = "nccl")]
    if std::env::var_os("TORCH_NCCL_ASYNC_ERROR_HANDLING").is_none() {
        // libtorch's default ends the process when an operation fails, and then no epoch follows.
        // SAFETY: no other thread exists yet: nothing has asked CUDA for its devices.
        unsafe { std::env::set_var("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0") };
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    let cli = Cli::parse();
    #[cfg(feature = "nccl")]
    if let Some(Err(failure)) = cli.serve.as_ref().map(bind_nccl) {
        return told(&failure);
    }
    let result = match (cli.command, cli.serve) {
        (Some(Command::Logprobs(args)), _) => logprobs::run(args),
        (Some(Command::Generate(args)), _) => generate::run(args),
        (Some(Command::Update(args)), _) => update::run(args),
        (Some(Command::Patches(args)), _) => patches::run(args),
        (Some(Command::Frames(args)), _) => frames::run(args),
        (Some(Command::Infer(args)), _) => infer::run(args),
        (Some(Command::Init(args)), _) => init::run(args),
        (None, Some(args)) => serve::run(args),
        (None, None) => Err(Failure::input(
            "nothing to do: give --rank N --coordinator ADDR to join a run, or a subcommand (worker --help lists them)",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => told(&failure),
    }
}

fn told(failure: &Failure) -> ExitCode {
    // Nobody is left to be told where this fails.
    let _ = writeln!(std::io::stderr(), "worker: {failure}");
    ExitCode::from(failure.exit_code)
}

/// Has NCCL open connections on the interface of the host file's address alone, where nobody says otherwise.
#[cfg(feature = "nccl")]
fn bind_nccl(args: &serve::Args) -> Result<(), Failure> {
    if args.asks_for_gpu() && std::env::var_os("NCCL_SOCKET_IFNAME").is_none() {
        let name = worker::interface::of(&args.address)?;
        // SAFETY: no other thread exists yet.
        unsafe { std::env::set_var("NCCL_SOCKET_IFNAME", format!("={name}")) };
    }
    Ok(())
}
