//! `coordinator update`: `worker update` over a world, with the coordinator, workers and messages of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::StateAbout;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use settings::{Hosts, Reference, Run, StageKind};

use crate::engine::{CarriedState, Outcome};
use crate::failure::Failure;
use crate::folder::RunFolder;
use crate::journal;
use crate::launch::{self, WorkerSpec};
use crate::plan::{Planner, Recorded};
use crate::report::{Lines, StepLine};
use crate::shell::{self, Ended, Prepared};
use crate::tell;

/// Arguments of `coordinator update`.
#[derive(clap::Args)]
pub struct Args {
    /// The host file: where workers run and who starts them.
    #[arg(long, value_name = "HOSTS.yaml")]
    nodes: PathBuf,
    /// JSON lines: {"id", "images", "prompt"} with "completion_ids" (end token included), "advantage" and optionally
    /// "old_logprobs", "rollout_logprobs" and "ref_logprobs"; lines of one id are one sample's responses.
    #[arg(long)]
    rollouts: PathBuf,
    /// The updated weights, a Hugging Face directory that must not exist yet.
    #[arg(long)]
    output: PathBuf,
    /// A directory in Hugging Face layout, instead of the recipe's model.path.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Optimizer steps, all from the same rollouts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Also writes the optimizer's state into the output, a file a rank where it is cut: --resume-from takes it.
    #[arg(long)]
    state: bool,
    /// Goes on from the state in DIR, an output of this command or of `worker update` with --state, written by any
    /// number of workers under any sharding; --model stays the model that its training began with.
    #[arg(long, value_name = "DIR")]
    resume_from: Option<PathBuf>,
    /// A recipe whose first stage of kind prpo says how to step; the defaults without one.
    #[arg(long, value_name = "RUN.yaml")]
    recipe: Option<PathBuf>,
    /// Lays a value over the recipe's; may be given many times.
    #[arg(long = "set", value_name = "key=value")]
    set: Vec<String>,
}

/// A line of stdout: the last step's numbers stand alone on the last one.
#[derive(Serialize)]
struct Report {
    loss: f64,
    /// Mean over tokens; 0 without a KL term.
    kl: f64,
    /// Before clipping.
    grad_norm: f64,
    tokens: u64,
}

/// The line of a step.
#[derive(Serialize)]
struct StepReport<'a> {
    step: u64,
    #[serde(flatten)]
    numbers: Report,
    /// From the last step's commit to this one's; of the first from its plan.
    seconds: f64,
    metrics: &'a BTreeMap<String, f64>,
}

/// Steps.
///
/// # Errors
/// Wrong input (2), try again (75), or a step failed or was not finite (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    if args.output.exists() {
        return Err(Failure::input(format!(
            "{}: exists already, expected a new directory: remove it or name another",
            args.output.display()
        )));
    }
    let hosts = settings::load_hosts(&args.nodes).map_err(Failure::input)?;
    let done = args.resume_from.as_deref().map_or(Ok(0), steps_of)?;
    let (run, schedule) = settings_of(&args, done)?;
    let config = run.model.path.join("config.json");
    if !config.is_file() {
        return Err(Failure::input(format!(
            "model.path: {} does not exist; expected a model folder in Hugging Face layout: give --model DIR",
            config.display()
        )));
    }
    let planner = Planner::recorded(&run, Recorded::read(&args.rollouts, schedule, done)?);
    let from = args.resume_from.as_deref().map(std::path::absolute).transpose().map_err(Failure::other)?;
    let ended = carry_out(run, hosts, planner, CarriedState { from, keep: args.state })?;
    let logs = |reason: String| format!("{reason}\nlogs are in {}", ended.folder.logs().display());
    match &ended.outcome {
        Outcome::Finished => {}
        Outcome::Interrupted => return Err(Failure::other(logs("stopped as asked".into()))),
        Outcome::Failed { reason, exit_code: 2 } => return Err(Failure::input(reason)),
        Outcome::Failed { reason, exit_code } => {
            return Err(Failure { message: logs(reason.clone()), exit_code: *exit_code });
        }
    }
    finish(ended, &args.output, done)
}

/// The steps in a saved state whose every file is what its manifest says.
fn steps_of(folder: &Path) -> Result<u64, Failure> {
    let about = StateAbout::read(folder).map_err(Failure::input)?;
    let manifest = checkpoint::verify(folder).map_err(Failure::input)?;
    if !manifest.files.contains_key(checkpoint::STATE_ABOUT) {
        return Err(Failure::input(format!(
            "{}: its manifest does not list {}, expected an output that was written with --state",
            folder.display(),
            checkpoint::STATE_ABOUT
        )));
    }
    Ok(about.steps)
}

/// The recipe's first stage of kind prpo alone, of as many steps as asked after those `done`, and the steps of its
/// schedule.
fn settings_of(args: &Args, done: u64) -> Result<(Run, u64), Failure> {
    let mut folder = args.output.as_os_str().to_owned();
    folder.push(format!(".run-{}", std::process::id()));
    let mut overrides = args.set.clone();
    overrides.extend(args.model.as_ref().map(|model| format!("model.path={}", model.display())));
    overrides.push(format!("run.output={}", PathBuf::from(folder).display()));
    let mut run = match &args.recipe {
        Some(recipe) => settings::load_run(recipe, &overrides),
        None => settings::default_run(&overrides),
    }
    .map_err(Failure::input)?;
    run.stages.retain(|stage| stage.kind == StageKind::Prpo);
    run.stages.truncate(1);
    let Some(stage) = run.stages.first_mut() else {
        return Err(Failure::input("the recipe has no stage of kind prpo: rollouts are its alone"));
    };
    let schedule = stage.steps.max(done + args.steps);
    let objective = &stage.objective;
    if args.resume_from.is_some() && objective.beta != 0.0 && objective.reference == Reference::Synced {
        return Err(Failure::input(
            "objective.reference is synced: a saved state does not hold that reference policy; use initial or base",
        ));
    }
    stage.steps = args.steps;
    stage.data.validation.clear();
    stage.data.test.clear();
    // Every step is applied or the run ends: a step that is not finite leaves nothing to write.
    stage.optimizer.max_consecutive_skips = 1;
    run.checkpoint.every = args.steps + 1;
    run.faults.clear();
    Ok((run, schedule))
}

/// Runs to the end.
fn carry_out(run: Run, hosts: Hosts, planner: Planner, state: CarriedState) -> Result<Ended, Failure> {
    let hosts = launch::resolved(hosts)?;
    let program = launch::program(&hosts)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = WorkerSpec::all(&hosts, cores);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("cannot start the runtime: {e}")))?;
    let prepared = Prepared { run, hosts, planner, workers, program, state, resume: false };
    runtime.block_on(shell::run(prepared))
}

/// Puts the weights in place, says what every step was, and removes the rest.
fn finish(ended: Ended, output: &Path, done: u64) -> Result<(), Failure> {
    let other = |e: &dyn std::fmt::Display| Failure::other(format!("{}: {e}", output.display()));
    let checkpoint = ended.checkpoint.as_ref().ok_or_else(|| other(&"no checkpoint was written"))?;
    let lines = Lines::read(ended.folder.root()).map_err(Failure::other)?;
    let commits = commits(&ended.folder).map_err(|e| other(&e))?;
    fs::rename(checkpoint, output).map_err(|e| other(&e))?;
    let mut before = None;
    for line in &lines.steps {
        let at = commits.get(&line.step).copied();
        let seconds = at.zip(before).map_or(line.seconds, |(at, before): (f64, f64)| at - before);
        before = at;
        let (step, metrics) = (done + line.step, &line.metrics);
        print(&StepReport { step, numbers: report(line), seconds, metrics })?;
    }
    let last = lines.steps.last().ok_or_else(|| other(&"no step was recorded"))?;
    print(&report(last))?;
    drop(ended.tenure);
    // What is left tells nothing that was not printed.
    let _ = fs::remove_dir_all(ended.folder.root());
    Ok(())
}

fn report(line: &StepLine) -> Report {
    let metric = |name: &str| line.metrics.get(name).copied().unwrap_or_default();
    Report { loss: line.loss, kl: metric("kl"), grad_norm: line.grad_norm, tokens: metric("tokens") as u64 }
}

fn print(report: &impl Serialize) -> Result<(), Failure> {
    tell::out(serde_json::to_string(report).map_err(Failure::other)?)
}

/// When every step was committed, seconds since 1970.
fn commits(folder: &RunFolder) -> Result<BTreeMap<u64, f64>, rusqlite::Error> {
    let connection =
        Connection::open_with_flags(folder.file(journal::FILE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut select = connection.prepare("SELECT step, at FROM steps")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
