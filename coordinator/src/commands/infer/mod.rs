//! `coordinator infer`: `worker infer` by all workers of a host file, a share each.
//!
//! Batches are those of one process that judges everything, so the answers are too. A worker writes what it has done
//! into a progress file of its own; whoever goes on, with as many workers or others, reads the files of all.

mod progress;
mod tending;

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use judge::{Asked, Done, Work};
use settings::{Hosts, Launcher};

use crate::failure::Failure;
use crate::folder::RunFolder;
use crate::launch::{self, WorkerSpec};
use crate::tell;
use tending::tend;

/// Arguments of `coordinator infer`.
#[derive(clap::Args)]
pub struct Args {
    /// The host file: where workers run and who starts them. It says on which devices and threads.
    #[arg(long, value_name = "HOSTS.yaml")]
    nodes: PathBuf,
    #[command(flatten)]
    asked: Asked,
}

/// Judges everything that is asked for; goes on with an interrupted output.
///
/// # Errors
/// Wrong input (2), in use by another command (75), or a worker that dies again and again (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { nodes, asked } = &args;
    let hosts = settings::load_hosts(nodes).map_err(Failure::input)?;
    if hosts.launcher == Launcher::External {
        return Err(Failure::input(format!(
            "{}: launcher: external starts no workers; expected local, ssh or slurm: or start \"worker infer … --share \
             I/N\" on each host, I from 0 to N − 1, and then once more without --share",
            nodes.display()
        )));
    }
    let work = Work::of(asked)?;
    let mut folder = asked.output.clone().into_os_string();
    folder.push(".workers");
    let folder = RunFolder::of_logs(folder.as_ref()).map_err(|e| {
        Failure::input(format!("{}: {e}; expected a place to write to", asked.output.display()))
    })?;
    let _ours = claim(&folder)?;
    if Done::read(&work)?.left(&work) > 0 {
        carry_out(hosts, asked, &work, &folder).map_err(|failure| match failure.exit_code {
            2 => failure,
            exit_code => {
                let message = format!("{failure}\nlogs are in {}", folder.logs().display());
                Failure { message, exit_code }
            }
        })?;
    }
    let summary = judge::finish(asked, &work, &Done::read(&work)?);
    // What the workers said is of no use any more.
    let _ = fs::remove_dir_all(folder.root());
    let summary = summary?;
    tell::err(format_args!("{} scored, {} failed", summary.scored, summary.failed));
    Ok(())
}

/// Holds the folder against other coordinators for as long as the file is open.
fn claim(folder: &RunFolder) -> Result<File, Failure> {
    let path = folder.file("lock");
    let file = File::create(&path).map_err(|e| Failure::other(format!("{}: {e}", path.display())))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Failure::retry(format!(
            "{} is in use: another coordinator judges into this output; wait for its end, or name another output",
            path.display()
        ))),
        // A file system without locks has none to respect.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Has every batch judged.
fn carry_out(hosts: Hosts, asked: &Asked, work: &Work, folder: &RunFolder) -> Result<(), Failure> {
    let hosts = launch::resolved(hosts)?;
    let program = launch::program(&hosts)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut workers = WorkerSpec::all(&hosts, cores);
    // A worker without a batch would only be started to end.
    workers.truncate(work.batches());
    let (shares, asked) = (workers.len(), asked.arguments()?);
    for worker in &mut workers {
        let own = [
            format!("--device={}", worker.device),
            format!("--threads={}", worker.threads),
            format!("--share={}/{shares}", worker.rank),
        ];
        let command = ["infer".to_owned()].into_iter().chain(asked.iter().cloned()).chain(own);
        worker.instead = Some(command.collect());
    }
    // One thread: children end with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(tend(&hosts, program.as_deref(), &workers, work, folder))
}
