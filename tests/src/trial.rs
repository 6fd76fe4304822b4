//! A run to which something happens, held to one to which nothing does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::left::Before;
use crate::moments::Moment;
use crate::outside::Outside;
use crate::recovery::{assert_exactly_once, journal, steps, weights};
use crate::running::{Running, signal, status, wait_for};
use crate::scene::{NO_EVALUATION, Scene};

/// Steps of a run.
const STEPS: usize = 5;
/// Seconds that no run of them takes.
const A_RUN: f64 = 600.0;

/// A scene, its settings, and how a run of it ends to which nothing happens.
#[derive(Debug)]
pub struct Trial {
    /// Five steps.
    pub scene: Scene,
    /// How many there are.
    pub workers: u32,
    settings: Vec<String>,
    expected: BTreeMap<String, String>,
}

impl Trial {
    /// Of so many workers, which `launcher` has started; `settings` are `key=value`. The undisturbed run is done.
    #[must_use]
    pub fn new(launcher: &str, workers: u32, settings: &[&str]) -> Self {
        let scene = Scene::prpo(STEPS);
        let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let expected = scene.undisturbed(workers, &set);
        scene.hosts(launcher, workers, "127.0.0.1:0");
        let settings = set.into_iter().chain(NO_EVALUATION).map(str::to_owned).collect();
        Self { scene, workers, settings, expected }
    }

    /// Begins a run in a folder of its own in which `action` happens at `moment`.
    #[must_use]
    pub fn begin(&self, moment: Moment, action: &str) -> Attempt<'_> {
        self.start(&format!("{action}-{moment:?}"), moment.faults(self.workers, action))
    }

    /// Begins a run in the scene's folder `name` with these faults.
    #[must_use]
    pub fn start(&self, name: &str, faults: String) -> Attempt<'_> {
        self.start_in(&self.scene.path(name), faults, &[])
    }

    /// As [`Trial::start`], anywhere, and with this in the environment.
    #[must_use]
    pub fn start_in<'a>(
        &'a self,
        folder: &Path,
        faults: String,
        environment: &[(&str, &str)],
    ) -> Attempt<'a> {
        let arguments = ["--allow-faults".to_owned(), "--set".to_owned(), faults].to_vec();
        let plan =
            Plan { trial: self, folder: folder.to_owned(), arguments, before: Before::look(), acted: None };
        let mut command = plan.command();
        command.envs(environment.iter().copied());
        Attempt { running: Running::start(command, folder), plan }
    }
}

/// What a run of a trial is.
#[derive(Debug)]
struct Plan<'a> {
    trial: &'a Trial,
    folder: PathBuf,
    arguments: Vec<String>,
    before: Before,
    /// When something was done to it.
    acted: Option<SystemTime>,
}

impl Plan<'_> {
    fn command(&self) -> Command {
        let mut command = self.trial.scene.coordinator(&[]);
        command.args(&self.trial.settings).args(&self.arguments).arg("--output").arg(&self.folder);
        command
    }

    fn mark(&self, place: usize, what: &str) -> PathBuf {
        self.folder.join(format!("logs/fault-{place}.{what}"))
    }

    /// Lets the planned wait of this place go on. The file takes no room.
    fn let_go(&self, place: usize) {
        std::fs::write(self.mark(place, "go"), "").expect("a file is made");
    }
}

/// A run of a trial, at work.
#[derive(Debug)]
pub struct Attempt<'a> {
    plan: Plan<'a>,
    running: Running,
}

impl<'a> Attempt<'a> {
    /// Waits until the planned fault of this place in the list strikes: it is time to act.
    pub fn comes_to(&mut self, place: usize) {
        let (mark, running) = (self.plan.mark(place, "struck"), &mut self.running);
        wait_for("the planned moment", || {
            let over = running.is_over();
            assert!(!over || mark.exists(), "the run ended before there was {}", mark.display());
            mark.exists().then_some(())
        });
        self.plan.acted = Some(SystemTime::now());
    }

    /// Lets the planned wait of this place go on.
    pub fn let_go(&self, place: usize) {
        self.plan.let_go(place);
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.plan.folder
    }

    /// A process for each rank, where the coordinator starts none.
    #[must_use]
    pub fn outside(&self) -> Outside {
        let _ = self.running.address();
        Outside::start(&self.plan.trial.scene, self.folder(), self.plan.trial.workers)
    }

    /// What the coordinator says of the run.
    #[must_use]
    pub fn status(&self) -> Value {
        status(self.folder())
    }

    /// Waits until what the coordinator says of the run is such.
    pub fn becomes(&self, what: &str, such: impl Fn(&Value) -> bool) {
        wait_for(what, || such(&self.status()).then_some(()));
    }

    /// Kills the coordinator.
    #[must_use]
    pub fn kill(self) -> Down<'a> {
        self.running.signal("KILL");
        self.ends(None)
    }

    /// Waits for the coordinator's end, with this exit code.
    #[must_use]
    pub fn ends(self, code: Option<i32>) -> Down<'a> {
        let ended = self.running.end();
        assert_eq!(ended.code, code, "{}", ended.stderr);
        Down { plan: self.plan, said: ended.stderr }
    }

    /// Waits for the run's good end: every step is done, every sample counts once, and the weights are those of the
    /// undisturbed run bit for bit.
    pub fn finishes(self, what: &str) -> Finished {
        let Self { plan, running } = self;
        let said = running.end().with(0).stderr;
        let (folder, mark) = (&plan.folder, plan.mark(0, "struck"));
        let struck = std::fs::metadata(&mark).and_then(|mark| mark.modified());
        let struck = struck.unwrap_or_else(|e| panic!("{what}: {}: {e}:\n{said}", mark.display()));
        assert_eq!(steps(folder).len(), STEPS, "{what}:\n{said}");
        assert_exactly_once(folder);
        assert_eq!(weights(folder), plan.trial.expected, "{what}: other weights:\n{said}");
        // Where a clock was set, the difference says nothing.
        if let Some(time) = next_step(folder, plan.acted.unwrap_or(struck)).filter(|time| *time < A_RUN) {
            println!("{what}: the next step was committed {time:.2} s after it");
        }
        let Plan { trial, folder, before, .. } = plan;
        Finished { scene: trial.scene.folder().to_owned(), folder, before, said }
    }
}

/// A run of a trial whose coordinator has ended too early.
#[derive(Debug)]
pub struct Down<'a> {
    plan: Plan<'a>,
    /// What the coordinator said on stderr.
    pub said: String,
}

impl<'a> Down<'a> {
    /// Lets the planned wait of this place go on.
    pub fn let_go(&self, place: usize) {
        self.plan.let_go(place);
    }

    /// Goes on with the run.
    #[must_use]
    pub fn resume(self) -> Attempt<'a> {
        let mut command = self.plan.command();
        command.arg("--resume");
        Attempt { running: Running::start(command, &self.plan.folder), plan: self.plan }
    }
}

/// How long after that moment the next step was committed, seconds.
#[must_use]
pub fn next_step(run: &Path, since: SystemTime) -> Option<f64> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
    // A file's time, by which a moment may be known, lies up to a tick of the kernel's behind.
    let question = format!("SELECT min(at) FROM steps WHERE at > {since} + 0.02");
    let next = journal::<Option<f64>>(run, &question);
    next.map(|at| at - since)
}

/// A run of a trial that came to its good end.
#[derive(Debug)]
#[must_use]
pub struct Finished {
    scene: PathBuf,
    folder: PathBuf,
    before: Before,
    /// What the coordinator said on stderr.
    pub said: String,
}

impl Finished {
    /// Asserts that nothing is left behind. To be asked once workers that are somebody else's have ended.
    pub fn leaves_nothing(&self) {
        self.before.assert_nothing_left(&self.scene);
    }

    /// How many rows of the journal's there are of what is asked for: `epochs`, `steps WHERE voided = 1`.
    #[must_use]
    pub fn count(&self, rows: &str) -> i64 {
        journal(&self.folder, &format!("SELECT count(*) FROM {rows}"))
    }

    /// Between the earliest and the latest time that a table of the journal has, seconds.
    #[must_use]
    pub fn spread(&self, table: &str) -> f64 {
        journal(&self.folder, &format!("SELECT max(at) - min(at) FROM {table}"))
    }
}

/// Has a process stand still until [`Stopped::goes_on`].
pub fn stop(process: u32) -> Stopped {
    signal(process, "STOP");
    Stopped(process)
}

/// A process that stands still.
#[derive(Debug)]
#[must_use]
pub struct Stopped(u32);

impl Stopped {
    /// Lets it go on.
    pub fn goes_on(self) {
        signal(self.0, "CONT");
    }
}
