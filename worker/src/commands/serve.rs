//! `worker --rank N --coordinator ADDR`: join a run and work until it ends.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::session::{self, Identity};

/// Arguments of a worker in a run.
#[derive(clap::Args)]
pub struct Args {
    /// This worker's rank; RANK or SLURM_PROCID where it is not given.
    #[arg(long)]
    rank: Option<u32>,
    /// The coordinator's `host:port`, or a file that holds it (RUN/address).
    #[arg(long)]
    coordinator: String,
    /// What to compute on: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Compute threads; 0: one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The local address that collectives bind to.
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
    /// The node that it runs on, by name: workers of one name share it. The machine's host name when absent.
    #[arg(long)]
    host: Option<String>,
}

/// Joins and works until the coordinator says stop.
///
/// # Errors
/// If the arguments are wrong (exit code 2), the coordinator refuses (1) or cannot be reached (75).
pub fn run(args: Args) -> Result<(), Failure> {
    let rank = rank(args.rank, |name| std::env::var(name).ok())?;
    let device = crate::device::parse(&args.device)?;
    let Args { device: named, address, threads, .. } = args;
    let host = args.host.unwrap_or_else(session::hostname);
    let identity = Identity { rank, device: named, address, threads, host };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("cannot start the session's threads: {e}")))?;
    let result = runtime.block_on(session::run(identity, &endpoint(&args.coordinator)?, device));
    // The tensor thread may sit in a collective whose peers are gone: do not wait for it.
    runtime.shutdown_background();
    result
}

fn rank(given: Option<u32>, variable: impl Fn(&str) -> Option<String>) -> Result<u32, Failure> {
    if let Some(rank) = given {
        return Ok(rank);
    }
    for name in ["RANK", "SLURM_PROCID"] {
        if let Some(text) = variable(name) {
            return text.parse().map_err(|_| {
                Failure::input(format!("{name}=\"{text}\" is not a rank: expected a number, 0 or above"))
            });
        }
    }
    Err(Failure::input("no rank: give --rank N, or set RANK or SLURM_PROCID"))
}

fn endpoint(given: &str) -> Result<String, Failure> {
    let path = PathBuf::from(given);
    let text = if path.is_file() {
        std::fs::read_to_string(&path).map_err(|e| Failure::input(format!("{given}: {e}")))?
    } else {
        given.to_string()
    };
    let text = text.trim();
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_string()),
        _ => Err(Failure::input(format!(
            "--coordinator \"{given}\" is not an address: expected host:port, or a file that holds it"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{endpoint, rank};

    #[test]
    fn a_rank_comes_from_the_flag_then_rank_then_slurm() {
        let slurm = |name: &str| (name == "SLURM_PROCID").then(|| "3".to_string());
        assert_eq!(rank(Some(1), slurm).ok(), Some(1));
        assert_eq!(rank(None, slurm).ok(), Some(3));
        assert!(
            rank(None, |_| Some("x".into())).is_err_and(|e| e.exit_code == 2 && e.message.contains("\"x\""))
        );
        assert!(rank(None, |_| None).is_err_and(|e| e.message.contains("--rank")));
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        assert_eq!(endpoint("127.0.0.1:80").ok().as_deref(), Some("127.0.0.1:80"));
        assert!(endpoint("localhost").is_err());
        assert!(endpoint(":80").is_err());
    }
}
