//! `coordinator status`: what a run is doing.

use proto::v1::StatusRequest;
use serde_json::Value;

use crate::client::Target;
use crate::failure::Failure;
use crate::tell;

/// Arguments of `coordinator status`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Asks a coordinator and prints what it says.
///
/// # Errors
/// Wrong arguments or a refusal (2), or nobody answers (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let (address, json) = args.target.ask(async |client| client.status(StatusRequest {}).await)?;
    let status: Value = serde_json::from_str(&json)
        .map_err(|e| Failure::other(format!("{address} answers something else than a status: {e}")))?;
    tell::out(if args.json { json } else { spoken(&status) })
}

/// For people: the verdict, the step, a line a worker.
fn spoken(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("{}: {}: {}", text(&status["run"]), text(&status["state"]), text(&status["reason"])),
        format!(
            "step {} of {}, stage {}, epoch {}, term {}",
            status["step"], status["steps"], status["stage"], status["epoch"], status["term"]
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
        let why = member["reason"].as_str().and_then(|why| why.lines().next());
        lines.push(format!(
            "rank {}: {} on {} (process {}, {}): {}",
            member["rank"],
            text(&member["state"]),
            text(&member["host"]),
            member["process"],
            text(&member["device"]),
            why.map_or_else(|| text(&member["phase"]), str::to_owned)
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_the_term_and_why_a_member_is_suspect_or_leaving() {
        let member = |rank: u32, state: &str, reason: Option<&str>| {
            serde_json::json!({
                "rank": rank, "host": "h", "process": 7, "device": "cpu", "state": state, "reason": reason,
                "phase": "rollout",
            })
        };
        let status = serde_json::json!({
            "run": "r", "state": "running", "reason": "update of step 3", "step": 2, "steps": 9, "stage": "explore",
            "epoch": 4, "term": 2,
            "members": [
                member(0, "active", None),
                member(1, "suspect", Some("not heard for 3 s")),
                member(2, "leaving", Some("gone in 20 s")),
            ],
        });
        let told = spoken(&status);
        for line in [
            "step 2 of 9, stage \"explore\", epoch 4, term 2",
            "rank 0: active on h (process 7, cpu): rollout",
            "rank 1: suspect on h (process 7, cpu): not heard for 3 s",
            "rank 2: leaving on h (process 7, cpu): gone in 20 s",
        ] {
            assert!(told.lines().any(|told| told == line), "{line} in:\n{told}");
        }
    }
}
