//! Carries out what the engine decides: clock, channels, disk, processes, terminal. Nothing is decided here.
//!
//! ```text
//! streams, children, signals, clock → events → Engine → commands → streams, journal, planner, disk
//! ```

mod carry;
mod checkpoints;
mod display;
mod history;
mod status;
mod streams;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use settings::{Hosts, Run};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::engine::{CarriedState, Engine, EvaluationSet, Event, Outcome, Record, Spec};
use crate::failure::Failure;
use crate::folder::{ADDRESS, OWNER, RunFolder};
use crate::journal::{Claim, Journal, JournalError, Past, RunRow};
use crate::launch::{WorkerSpec, Workers};
use crate::plan::Planner;
use crate::security::Demands;
use crate::server::{Arrival, Server, interface};
use crate::terms::{Claimant, Clock, Fence, Tenure, Term, TermError};
use checkpoints::Checkpoints;
use display::Display;
use history::History;
use streams::Streams;

/// How often the engine hears that time passes.
const TICK: Duration = Duration::from_millis(200);

/// A run that is ready to begin: everything that can be wrong with its input has been looked at.
#[derive(Debug)]
pub struct Prepared {
    /// The recipe.
    pub run: Run,
    /// The host file.
    pub hosts: Hosts,
    /// The recipe's data.
    pub planner: Planner,
    /// What each rank is started with.
    pub workers: Vec<WorkerSpec>,
    /// The worker's program; `None` where somebody else starts it.
    pub program: Option<PathBuf>,
    /// Goes on with the run that the folder holds, if it holds one.
    pub resume: bool,
    /// The optimizer's state that it goes on from, and whether checkpoints hold it.
    pub state: CarriedState,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Where everything lies.
    pub folder: RunFolder,
    /// The newest committed step.
    pub step: u64,
    /// The newest published checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The run is spoken for until this is dropped.
    pub tenure: Tenure,
}

/// Runs to the end. Must be called on a thread that lives as long as the run: workers are bound to it.
///
/// # Errors
/// If the run cannot begin: the port is in use, the folder holds another run, workers cannot be started.
pub async fn run(prepared: Prepared) -> Result<Ended, Failure> {
    let Prepared { run, hosts, mut planner, workers, program, state, resume } = prepared;
    let started = Instant::now();
    let (status, watched) = watch::channel("{}".to_owned());
    let mut server =
        Server::start(&interface::address(&hosts.coordinator)?, Demands::read(&hosts.security)?, watched)
            .await?;
    let folder = RunFolder::make(&run.run.output).map_err(|e| {
        Failure::input(format!("run.output {}: {e}; expected a folder to write to", run.run.output.display()))
    })?;
    let run = Run { run: settings::Identity { output: folder.root().into(), ..run.run }, ..run };
    let owner = owner(&server.address);
    let (events, inbox) = mpsc::unbounded_channel();
    let term = claim(folder.root(), &owner, started).await?;
    let tenure = hold(term, started, &events)?;
    let fence = tenure.fence().clone();
    let (journal, past) = open_journal(&folder, &run, &fence, &owner, resume)?;
    for record in &past.records {
        if let Record::Evaluation(e) = record
            && e.set == EvaluationSet::Validation
        {
            planner.remember(e.stage, e.step, e.srcc);
        }
    }
    fence.check().map_err(Failure::retry)?;
    announce(&folder, &run, &owner, &server.address)?;
    let history = History::begin(&folder, Clock::since(started)).map_err(Failure::other)?;
    let mut signals =
        Signals::listen().map_err(|e| Failure::other(format!("cannot listen for signals: {e}")))?;

    let display = Display::new(&run, Clock::since(started));
    let spec = Spec { state, ..Spec::new(past.id.clone(), fence.number(), &run, &hosts) };
    let engine = Engine::resume(spec.clone(), started.elapsed(), &past.records);
    let (id, address, step) = (&past.id, &server.address, engine.committed_step());
    let (verb, root) = (if step > 0 { "goes on after" } else { "begins at" }, folder.root().display());
    display.say(&format!("run {id}: coordinator on {address}, folder {root}, {verb} step {step}"));
    fence.check().map_err(Failure::retry)?;
    let mark = folder.mark()?;
    let (children, todo) =
        Workers::start(&hosts, program.as_deref(), &workers, &server.address, (&folder, &mark), &events)?;
    todo.iter().for_each(|todo| display.say(todo));
    let mut shell = Shell {
        started,
        engine,
        streams: Streams::new(&spec, &run, mark),
        checkpoints: Checkpoints::new(folder.clone(), spec.run_id.clone(), fence.clone()),
        planner,
        journal,
        fence,
        history,
        display,
        status,
        state: "",
        events,
        children: Some(children),
        queue: VecDeque::new(),
        lost: None,
        outcome: None,
        run,
    };
    let outcome = shell.serve(&mut server, inbox, &mut signals).await;
    if let Some(children) = shell.children.take() {
        children.end().await;
    }
    shell.display.finish();
    let step = shell.engine.committed_step();
    let checkpoint = shell.checkpoints.newest();
    Ok(Ended { outcome, folder, step, checkpoint, tenure })
}

/// The run's next term, once nobody else can hold it.
async fn claim(folder: &Path, owner: &str, started: Instant) -> Result<Term, Failure> {
    let failed = |error| match error {
        TermError::Held { .. } => Failure::retry(error),
        _ => Failure::input(error),
    };
    let mut claimant = Claimant::new(folder, owner).map_err(failed)?;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        if let Some(term) = claimant.claim(started.elapsed()).map_err(failed)? {
            return Ok(term);
        }
    }
}

/// Holds the term from now on; its loss comes as an event.
fn hold(term: Term, started: Instant, events: &mpsc::UnboundedSender<Event>) -> Result<Tenure, Failure> {
    let events = events.clone();
    let on_loss = move |lost: TermError| {
        // Nobody listens once the run is over.
        let _ = events.send(Event::TermLost { reason: lost.to_string() });
    };
    let begun = Tenure::begin(term, Clock::since(started), on_loss);
    begun.map_err(|e| Failure::other(format!("cannot start a thread: {e}")))
}

/// The journal of this term, and the run that it goes on with: a new one, or the one that the folder holds.
fn open_journal(
    folder: &RunFolder,
    run: &Run,
    fence: &Fence,
    owner: &str,
    resume: bool,
) -> Result<(Journal, Past), Failure> {
    let at = seconds_since_1970();
    let row = RunRow {
        id: format!("{}-{:x}", run.run.name, at as u64),
        recipe_digest: run.digest(),
        // Plain settings: nothing that JSON cannot hold.
        recipe: serde_json::to_string(run).unwrap_or_default(),
    };
    let claim = Claim { term: fence.number(), owner, at };
    let may = || fence.check();
    let opened = Journal::open(folder.root(), claim, &row, resume, &may);
    let (journal, past) = opened.map_err(|error| match error {
        JournalError::Term(_) | JournalError::Changing { .. } => Failure::retry(error),
        _ => Failure::input(error),
    })?;
    if let Some(past) = past {
        return Ok((journal, past));
    }
    fence.check().map_err(Failure::retry)?;
    folder.forget_lines().map_err(|e| Failure::other(format!("{}: {e}", folder.root().display())))?;
    Ok((journal, Past { id: row.id, records: Vec::new() }))
}

/// The run while it runs.
struct Shell {
    started: Instant,
    engine: Engine,
    streams: Streams,
    checkpoints: Checkpoints,
    planner: Planner,
    journal: Journal,
    fence: Fence,
    history: History,
    display: Display,
    status: watch::Sender<String>,
    /// The state of the last verdict.
    state: &'static str,
    /// Where work off this thread answers.
    events: mpsc::UnboundedSender<Event>,
    /// Until the run is over.
    children: Option<Workers>,
    queue: VecDeque<Event>,
    /// When the first sign of a loss came that work has not gone on after.
    lost: Option<Duration>,
    outcome: Option<Outcome>,
    run: Run,
}

impl Shell {
    /// Handles what happens until the engine ends the run.
    async fn serve(
        &mut self,
        server: &mut Server,
        mut inbox: mpsc::UnboundedReceiver<Event>,
        signals: &mut Signals,
    ) -> Outcome {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // In this order: what members said is heard before the clock says that they were silent.
            tokio::select! {
                biased;
                () = signals.next() => match self.interrupt() {
                    Some(outcome) => return outcome,
                    None => self.queue.push_back(Event::Interrupted),
                },
                Some(event) = inbox.recv() => self.queue.push_back(event),
                Some(arrival) = server.arrivals.recv() => self.on_arrival(arrival),
                _ = tick.tick() => self.on_tick(),
            }
            self.drain_queue();
            if let Some(outcome) = self.outcome.take() {
                return outcome;
            }
        }
    }

    fn on_tick(&mut self) {
        self.queue.push_back(Event::Tick);
        self.tell_status();
    }

    /// What the status call answers from now on.
    fn tell_status(&self) {
        let json = status::json(&self.engine, self.started.elapsed(), &self.run);
        self.status.send_if_modified(|last| {
            let changed = *last != json;
            *last = json;
            changed
        });
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let event = match arrival {
            Arrival::Opened { stream, rank, join, orders } => {
                self.streams.open(stream, orders);
                Some(Event::Joining { stream, rank, join })
            }
            Arrival::Message { stream, message } => self.streams.event_of(stream, message),
            Arrival::Closed { stream, reason } => self.streams.close(stream, reason),
            Arrival::Pause(pause) => Some(Event::Pause(pause)),
        };
        self.queue.extend(event);
    }

    fn drain_queue(&mut self) {
        while let Some(event) = self.queue.pop_front() {
            // A process that was frozen learns of it before it acts on what came meanwhile.
            let event = match self.fence.check_time() {
                Ok(()) => event,
                Err(lost) => Event::TermLost { reason: lost.to_string() },
            };
            let commands = self.engine.handle(self.started.elapsed(), event);
            for command in commands {
                if let Err(trouble) = self.carry_out(command) {
                    // Nothing that stands behind a failed command may happen.
                    self.queue.push_front(trouble.into_event());
                    break;
                }
            }
        }
    }

    /// The first signal asks the engine, the second ends the run at once.
    fn interrupt(&mut self) -> Option<Outcome> {
        if self.display.interrupted() {
            return Some(Outcome::Failed {
                reason: format!(
                    "stopped at once by a second signal after step {}",
                    self.engine.committed_step()
                ),
                exit_code: 1,
            });
        }
        None
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Who this coordinator is, for people and for the next one.
fn owner(address: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let job = std::env::var("SLURM_JOB_ID").map(|job| {
        let restarts = std::env::var("SLURM_RESTART_COUNT").unwrap_or_else(|_| "0".into());
        format!(", job {job} restart {restarts}")
    });
    let job = job.unwrap_or_default();
    format!("process {} on {}, listening on {address}{job}", std::process::id(), host.trim())
}

/// Says in the folder where the coordinator listens, who it is, and what it runs.
fn announce(folder: &RunFolder, run: &Run, owner: &str, address: &str) -> Result<(), Failure> {
    let texts =
        [(OWNER, format!("{owner}\n")), ("recipe.yaml", run.to_yaml()), (ADDRESS, format!("{address}\n"))];
    for (name, text) in texts {
        folder
            .write(name, text.as_bytes())
            .map_err(|e| Failure::other(format!("cannot write {}: {e}", folder.file(name).display())))?;
    }
    Ok(())
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
