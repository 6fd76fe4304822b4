//! The coordinator's command line.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use coordinator::commands::{
    certificates, dataset, evaluate, infer, pause, rewards, status, submit, train, update,
};
use coordinator::tell;
use tracing_subscriber::EnvFilter;

/// Fine-tunes Qwen2.5-VL by PRPO with the workers of a host file. Without a subcommand it trains.
#[derive(Parser)]
#[command(
    name = "coordinator",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: Option<train::Args>,
}

#[derive(Subcommand)]
enum Command {
    /// Scores batches of responses: a JSON line of rewards, advantages and parts per input line.
    Rewards(rewards::Args),
    /// Agreement of predictions with labels: SRCC, PLCC, KRCC, RMSE.
    Evaluate(evaluate::Args),
    /// Makes and checks data sets.
    Dataset(dataset::Args),
    /// What a run is doing.
    Status(status::Args),
    /// A run as a Slurm job.
    Submit(submit::Args),
    /// Holds a run between two activities, or lets it go on.
    Pause(pause::Args),
    /// Makes a run's certificates, for security.certificates of the host file.
    Certificates(certificates::Args),
    /// Optimizer steps from recorded rollouts, over a world of workers.
    Update(Box<update::Args>),
    /// Scores of pictures and videos, by the workers of a host file.
    Infer(Box<infer::Args>),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    let cli = Cli::parse();
    let result = match (cli.command, cli.train) {
        (Some(Command::Rewards(args)), _) => rewards::run(args),
        (Some(Command::Evaluate(args)), _) => evaluate::run(args),
        (Some(Command::Dataset(args)), _) => dataset::run(args),
        (Some(Command::Status(args)), _) => status::run(args),
        (Some(Command::Submit(args)), _) => submit::run(args),
        (Some(Command::Pause(args)), _) => pause::run(args),
        (Some(Command::Certificates(args)), _) => certificates::run(args),
        (Some(Command::Update(args)), _) => update::run(*args),
        (Some(Command::Infer(args)), _) => infer::run(*args),
        (None, Some(args)) => train::run(args),
        (None, None) => Err(coordinator::failure::Failure::input(
            "nothing to do: give --nodes HOSTS.yaml to train, or a subcommand (coordinator --help lists them)",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell::err(format_args!("coordinator: {failure}"));
            ExitCode::from(failure.exit_code)
        }
    }
}
