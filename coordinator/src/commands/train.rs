//! The default command: trains, with evaluation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use settings::{DataSource, Hosts, Run};
use sha2::{Digest, Sha256};

use crate::engine::{CarriedState, Outcome};
use crate::failure::Failure;
use crate::journal;
use crate::launch::{self, WorkerSpec};
use crate::outlook;
use crate::plan::{PlanError, Planner};
use crate::report::{self, Facts};
use crate::shell::{self, Ended, Prepared};
use crate::tell;

/// Arguments of a training run.
#[derive(clap::Args)]
pub struct Args {
    /// The host file: where workers run and who starts them.
    #[arg(long, value_name = "HOSTS.yaml")]
    pub nodes: PathBuf,
    /// The recipe.
    #[arg(long, value_name = "RUN.yaml")]
    pub recipe: Option<PathBuf>,
    /// Lays a value over the recipe's; may be given many times.
    #[arg(long = "set", value_name = "key=value")]
    pub set: Vec<String>,
    /// The run folder, instead of the recipe's run.output.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Prints the resolved recipe and the plan, and starts nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Goes on with what an output folder holds.
    #[arg(long)]
    pub resume: bool,
    /// Carries out the recipe's planned faults.
    #[arg(long)]
    pub allow_faults: bool,
}

/// Trains.
///
/// # Errors
/// Wrong input (2), try again (75), or the run failed (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let (run, hosts) = settings_of(&args)?;
    if args.dry_run {
        return dry_run(&run, &hosts);
    }
    run.check_files().map_err(Failure::input)?;
    let planner = Planner::load(&run).map_err(plan_failure)?;
    let run = planner.run().clone();
    let hosts = launch::resolved(hosts)?;
    let program = launch::program(&hosts)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = WorkerSpec::all(&hosts, cores);
    let recipe_yaml = run.to_yaml();
    let digest = run.digest();
    // What a run goes on from after a loss.
    let state = CarriedState { from: None, keep: true };
    let prepared =
        Prepared { run: run.clone(), hosts, planner, workers, program, state, resume: args.resume };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("cannot start the runtime: {e}")))?;
    let ended = runtime.block_on(shell::run(prepared))?;
    drop(runtime);
    let facts = Facts::of(&run, &digest, &recipe_yaml, &outcome_text(&ended.outcome));
    finish(&ended, &Facts { digests: label_files(&run), ..facts })
}

/// SHA-256 of every label file; what cannot be read any more is left out.
fn label_files(run: &Run) -> Vec<(String, String)> {
    let lists = run.stages.iter().flat_map(|s| [&s.data.train, &s.data.validation, &s.data.test]);
    let files: BTreeSet<PathBuf> =
        lists.flatten().flat_map(DataSource::pairs).map(|(manifest, _)| manifest).collect();
    let digest = |file: PathBuf| {
        let bytes = std::fs::read(&file).ok()?;
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Some((file.display().to_string(), hex))
    };
    files.into_iter().filter_map(digest).collect()
}

/// The digest of all master weights at every stage's start, as the journal has it; none where it cannot be read.
fn weights(journal: &Path) -> Vec<(String, String)> {
    let read = || -> rusqlite::Result<Vec<(String, String)>> {
        let connection = Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut select = connection.prepare("SELECT name, digest FROM stages ORDER BY stage")?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok((format!("weights before {}", row.get::<_, String>(0)?), row.get(1)?))
        };
        select.query_map([], row)?.collect()
    };
    read().unwrap_or_default()
}

/// Samples in quarantine, as the journal has them; none where it cannot be read.
fn quarantined(journal: &Path) -> Vec<report::Quarantined> {
    let read = || -> rusqlite::Result<Vec<report::Quarantined>> {
        let connection = Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut select = connection.prepare("SELECT sample, step, reason FROM quarantine ORDER BY id")?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(report::Quarantined { sample: row.get(0)?, step: row.get(1)?, reason: row.get(2)? })
        };
        select.query_map([], row)?.collect()
    };
    read().unwrap_or_default()
}

fn settings_of(args: &Args) -> Result<(Run, Hosts), Failure> {
    let hosts = settings::load_hosts(&args.nodes).map_err(Failure::input)?;
    let mut overrides = args.set.clone();
    overrides.extend(args.output.as_ref().map(|output| format!("run.output={}", output.display())));
    let run = match &args.recipe {
        Some(recipe) => settings::load_run(recipe, &overrides),
        None => settings::default_run(&overrides),
    }
    .map_err(Failure::input)?;
    if !run.faults.is_empty() && !args.allow_faults {
        return Err(Failure::input(format!(
            "the recipe plans {} faults: give --allow-faults to carry them out, or remove \"faults\"",
            run.faults.len()
        )));
    }
    Ok((run, hosts))
}

/// Prints what would be done.
fn dry_run(run: &Run, hosts: &Hosts) -> Result<(), Failure> {
    // A recipe whose files are elsewhere is shown too, before what is missing.
    let checked = run.check_files_or_declared().map_err(Failure::input);
    let planner = checked.and_then(|()| Planner::outlook(run).map_err(plan_failure));
    let run = planner.as_ref().map_or(run, Planner::run);
    let mut text = run.to_yaml();
    let _ = writeln!(text, "# recipe digest {}", run.digest());
    for host in &hosts.hosts {
        let _ = writeln!(
            text,
            "# host {} ({}): {} workers on {:?}",
            host.name, host.address, host.workers, host.device
        );
    }
    tell::out(text.trim_end())?;
    let planner = planner.as_ref().map_err(Clone::clone)?;
    planner.summary().iter().try_for_each(|line| tell::out(format_args!("# {line}")))?;
    let lines = outlook::lines(run, hosts, |stage| planner.train(stage))?;
    lines.iter().try_for_each(|line| tell::out(format_args!("# {line}")))
}

fn plan_failure(error: PlanError) -> Failure {
    match error.exit_code() {
        2 => Failure::input(error),
        _ => Failure::other(error),
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Finished => "finished".into(),
        Outcome::Interrupted => "interrupted".into(),
        Outcome::Failed { reason, .. } => reason.clone(),
    }
}

/// Writes the report of whatever came of the run, prints its table, and says how it ended. Where another coordinator may
/// have the run by now, the report is that one's to write.
fn finish(ended: &Ended, facts: &Facts) -> Result<(), Failure> {
    let mut digests = facts.digests.clone();
    digests.extend(weights(&ended.folder.file(journal::FILE)));
    let quarantined = quarantined(&ended.folder.file(journal::FILE));
    let facts = Facts { checkpoint: ended.checkpoint.clone(), digests, quarantined, ..facts.clone() };
    let drawn = report::draw(ended.folder.root(), &facts);
    if let Err(lost) = ended.tenure.fence().check() {
        return Err(match &ended.outcome {
            Outcome::Failed { reason, exit_code } => {
                Failure { message: reason.clone(), exit_code: *exit_code }
            }
            Outcome::Finished | Outcome::Interrupted => Failure::retry(lost),
        });
    }
    let written = drawn.and_then(|drawn| drawn.put(ended.folder.root()));
    let on_disk = format!("everything up to step {} is in {}", ended.step, ended.folder.root().display());
    match &ended.outcome {
        Outcome::Finished => tell::out(report::table(&written.map_err(Failure::other)?)),
        Outcome::Interrupted => {
            let kept = ended.checkpoint.as_ref().map_or_else(
                || "no checkpoint was written".to_owned(),
                |path| format!("the newest checkpoint is {}", path.display()),
            );
            tell::out(format_args!("stopped as asked: {on_disk}; {kept}"))
        }
        Outcome::Failed { reason, exit_code: 2 } => Err(Failure::input(reason)),
        Outcome::Failed { reason, exit_code } => {
            Err(Failure { message: format!("{reason}\n{on_disk}"), exit_code: *exit_code })
        }
    }
}
