//! `coordinator status`: what a run is doing.

use std::path::PathBuf;
use std::time::Duration;

use proto::v1::StatusRequest;
use proto::v1::run_client::RunClient;
use serde_json::Value;
use tonic::transport::Endpoint;

use crate::failure::Failure;
use crate::folder::ADDRESS;
use crate::tell;

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `coordinator status`.
#[derive(clap::Args)]
pub struct Args {
    /// The coordinator's address, host:port.
    #[arg(long, value_name = "A", conflicts_with = "output", required_unless_present = "output")]
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
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let address = address(&args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("cannot start the runtime: {e}")))?;
    let json = runtime.block_on(ask(&address))?;
    let status: Value = serde_json::from_str(&json)
        .map_err(|e| Failure::other(format!("{address} answers something else than a status: {e}")))?;
    tell::out(if args.json { json } else { spoken(&status) })
}

fn address(args: &Args) -> Result<String, Failure> {
    match (&args.address, &args.output) {
        (Some(address), _) => Ok(address.clone()),
        (None, Some(output)) => {
            let path = output.join(ADDRESS);
            let text = std::fs::read_to_string(&path).map_err(|e| {
                Failure::input(format!(
                    "{}: {e}; expected the folder of a run, with its address",
                    path.display()
                ))
            })?;
            Ok(text.trim().to_owned())
        }
        (None, None) => Err(Failure::input("give --address host:port or --output RUNDIR")),
    }
}

async fn ask(address: &str) -> Result<String, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| Failure::input(format!("{address:?} is no address: {e}; expected host:port")))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    let silent = |e: &dyn std::fmt::Display| {
        Failure::other(format!("no coordinator answers at {address} ({e}): is the run over?"))
    };
    let channel = endpoint.connect().await.map_err(|e| silent(&e))?;
    let reply = RunClient::new(channel).status(StatusRequest {}).await.map_err(|e| silent(&e.message()))?;
    Ok(reply.into_inner().json)
}

/// For people: the verdict, the step, a line a worker.
fn spoken(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("{}: {}: {}", text(&status["run"]), text(&status["state"]), text(&status["reason"])),
        format!(
            "step {} of {}, stage {}, epoch {}",
            status["step"], status["steps"], status["stage"], status["epoch"]
        ),
    ];
    for found in status["quarantined"].as_array().into_iter().flatten() {
        lines.push(format!(
            "in quarantine: {} (workers died on it in step {})",
            text(&found["sample"]),
            found["step"]
        ));
    }
    for member in status["members"].as_array().into_iter().flatten() {
        lines.push(format!(
            "rank {}: {} on {} (process {}, {}): {}",
            member["rank"],
            text(&member["state"]),
            text(&member["host"]),
            member["process"],
            text(&member["device"]),
            text(&member["phase"])
        ));
    }
    lines.join("\n")
}
