//! `worker --rank N --coordinator ADDR`: join a run and work until it ends.

use std::io::Write as _;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::session::{self, Coordinator, Identity};
use crate::work;

/// Arguments of a worker in a run.
#[derive(clap::Args)]
pub struct Args {
    /// This worker's rank; RANK or SLURM_PROCID where it is not given.
    #[arg(long)]
    rank: Option<u32>,
    /// The coordinator's `host:port`, or a file that holds it (RUN/address) and is read again when it is gone.
    #[arg(long)]
    coordinator: String,
    /// A file with the run's join token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A folder with ca.pem, worker.pem and worker.key: the session is encrypted, and both sides show who they are.
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,
    /// What to compute on: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Compute threads; 0: one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The local address that collectives bind to.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: String,
    /// The node that it runs on, by name: workers of one name share it. The machine's host name when absent.
    #[arg(long)]
    host: Option<String>,
}

impl Args {
    /// Whether tensors are to lie on a GPU, whether there is one or not.
    #[must_use]
    pub fn asks_for_gpu(&self) -> bool {
        self.device.starts_with("cuda")
    }
}

/// Joins and works until the coordinator says stop, and ends the process: whatever its tensor thread still waits for.
///
/// # Errors
/// If the arguments are wrong (exit code 2).
pub fn run(args: Args) -> Result<(), Failure> {
    let rank = rank(args.rank, |name| std::env::var(name).ok())?;
    let device = crate::device::parse(&args.device)?;
    let mut coordinator = Coordinator::at(&args.coordinator)?;
    if let Some(file) = &args.token_file {
        coordinator = coordinator.with_token(file)?;
    }
    if let Some(folder) = &args.certificates {
        coordinator = coordinator.with_certificates(folder)?;
    }
    let Args { device: named, address, threads, .. } = args;
    let host = args.host.unwrap_or_else(session::hostname);
    let identity = Identity { rank, device: named, address, threads, host };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("cannot start the session's threads: {e}")))?;
    end(runtime.block_on(session::run(identity, &coordinator, device, work::run)))
}

/// Ends the process here and now. The tensor thread may sit in a collective whose peers are gone, or in libtorch,
/// whose own end must not begin beside it.
fn end(result: Result<(), Failure>) -> ! {
    let code = result.map_or_else(
        |failure| {
            // Nobody is left to be told where this fails.
            let _ = writeln!(std::io::stderr(), "worker: {failure}");
            failure.exit_code
        },
        |()| 0,
    );
    // SAFETY: it takes no pointers, and does not return.
    unsafe { libc::_exit(code.into()) }
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

#[cfg(test)]
mod tests {
    use super::rank;

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
}
