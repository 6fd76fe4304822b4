//! Planned faults: what a recipe says is to go wrong on this rank, at which step and moment.

mod group;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use settings::{Fault, FaultAction, Phase};
use tracing::warn;

pub use group::Striking;

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What is waited for is let go on by itself after it.
const LET_GO: Duration = Duration::from_secs(60);

/// Between two looks for the file that lets go.
const LOOK: Duration = Duration::from_millis(5);

/// How long the session may take to send what was reported.
const SENDING: Duration = Duration::from_millis(200);

/// The faults of this rank. Each strikes once a run: the process that takes a killed one's place goes on. Those of a
/// sample strike whoever has it before him, each time.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Planned>);

#[derive(Debug)]
struct Planned {
    run_id: String,
    rank: u32,
    /// Where it is noted which have struck.
    folder: PathBuf,
    /// With their place in the recipe.
    own: Vec<(usize, Fault)>,
}

impl Faults {
    /// Those that `run` plans for `rank`.
    #[must_use]
    pub fn of(run: &settings::Run, run_id: &str, rank: u32) -> Self {
        let is_own = |fault: &Fault| fault.rank.is_none_or(|of| of == rank);
        let own = run.faults.iter().cloned().enumerate().filter(|(_, fault)| is_own(fault));
        Self(Arc::new(Planned {
            run_id: run_id.to_owned(),
            rank,
            folder: run.run.output.join("logs"),
            own: own.collect(),
        }))
    }

    /// The same rank's in the same run, as another recipe plans them.
    #[must_use]
    pub fn of_recipe(&self, run: &settings::Run) -> Self {
        Self::of(run, &self.0.run_id, self.0.rank)
    }

    /// Whether something is planned for this moment.
    #[must_use]
    pub fn planned(&self, step: u64, phase: Phase) -> bool {
        self.at(step, phase).is_some()
    }

    fn at(&self, step: u64, phase: Phase) -> Option<&(usize, Fault)> {
        self.0.own.iter().find(|(_, fault)| (fault.step, fault.phase) == (Some(step), phase))
    }

    /// Does what is planned for one of `samples`, each time that a rank works on it.
    pub fn strike_on<'a>(&self, samples: impl Iterator<Item = &'a str>, phase: Phase) {
        let samples: Vec<&str> = samples.collect();
        let holds = |fault: &Fault| {
            fault.phase == phase && fault.sample.as_deref().is_some_and(|sample| samples.contains(&sample))
        };
        let Some((place, fault)) = self.0.own.iter().find(|(_, fault)| holds(fault)) else { return };
        let before = self.has_struck(*place);
        self.note(*place);
        warn!(sample = ?fault.sample, ?phase, action = ?fault.action, before, "planned fault");
        self.act(*place, fault.action);
    }

    /// Does what is planned for this moment.
    pub fn strike(&self, step: u64, phase: Phase) {
        let Some((place, fault)) = self.at(step, phase) else { return };
        if self.has_struck(*place) {
            return;
        }
        warn!(step, ?phase, action = ?fault.action, "planned fault");
        if phase == Phase::Prepared {
            // What was reported is to be on its way: that is what this moment means.
            thread::sleep(SENDING);
        }
        // Nobody is to act on it before the moment has come.
        self.note(*place);
        self.act(*place, fault.action);
    }

    fn file(&self, place: usize, what: &str) -> PathBuf {
        self.0.folder.join(format!("fault-{place}.{what}"))
    }

    /// Whether it has struck in this run.
    fn has_struck(&self, place: usize) -> bool {
        fs::read_to_string(self.file(place, "struck")).is_ok_and(|run_id| run_id == self.0.run_id)
    }

    /// Notes that it strikes now.
    fn note(&self, place: usize) {
        let path = self.file(place, "struck");
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0.folder)?;
            fs::write(&path, &self.0.run_id)
        };
        if let Err(error) = write() {
            warn!("{}: {error}: the fault will strike again", path.display());
        }
    }

    fn act(&self, place: usize, action: FaultAction) {
        match action {
            FaultAction::Kill => signal(libc::SIGKILL),
            FaultAction::Stop => signal(libc::SIGSTOP),
            // SAFETY: it takes no pointers and does not return.
            FaultAction::Exit => unsafe { libc::_exit(3) },
            FaultAction::Hang => loop {
                thread::sleep(FOR_EVER);
            },
            FaultAction::Wait => {
                let let_go = let_go(&self.file(place, "go"), LET_GO);
                warn!(let_go, "the planned wait is over");
            }
        }
    }
}

/// Waits for the file, so long at most; whether it came.
fn let_go(file: &Path, longest: Duration) -> bool {
    let end = Instant::now() + longest;
    while !file.exists() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

fn signal(number: libc::c_int) {
    // SAFETY: kill takes no pointers; what it does to this process is the fault's purpose.
    unsafe { libc::kill(libc::getpid(), number) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in `folder` with these faults.
    fn planning(folder: &Path, faults: Vec<Fault>) -> settings::Run {
        let output = format!("run.output={}", folder.display());
        let mut run = settings::default_run(&[output]).expect("defaults");
        run.faults = faults;
        run
    }

    fn fault(rank: u32, phase: Phase, action: FaultAction) -> Fault {
        Fault { rank: Some(rank), step: Some(2), sample: None, phase, action }
    }

    #[test]
    fn a_fault_is_of_one_rank_step_and_phase_and_strikes_once_a_run() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let planned =
            [fault(0, Phase::Update, FaultAction::Kill), fault(1, Phase::Backward, FaultAction::Wait)];
        let run = planning(folder.path(), planned.to_vec());
        let faults = Faults::of(&run, "a", 1);
        assert!(faults.planned(2, Phase::Backward));
        assert!(!faults.planned(2, Phase::Update) && !faults.planned(1, Phase::Backward));
        // It would kill this process.
        faults.strike(2, Phase::Update);
        faults.note(1);
        assert_eq!([0, 1].map(|place| faults.has_struck(place)), [false, true]);
        assert!(!Faults::of(&run, "b", 1).has_struck(1), "another run in the folder has its own");
        // It would wait.
        faults.strike(2, Phase::Backward);
    }

    #[test]
    fn work_waits_from_its_mark_on_until_the_file_comes_that_lets_it_go() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run = planning(folder.path(), vec![fault(0, Phase::Commit, FaultAction::Wait)]);
        let faults = Faults::of(&run, "a", 0);
        let waits = faults.clone();
        let (goes_on, went_on) = std::sync::mpsc::channel();
        thread::spawn(move || {
            waits.strike(2, Phase::Commit);
            goes_on.send(()).expect("somebody listens");
        });
        // Longer than it takes between two looks.
        assert!(went_on.recv_timeout(40 * LOOK).is_err(), "nobody has let it go");
        assert!(faults.has_struck(0));
        fs::write(faults.file(0, "go"), "").expect("a file");
        went_on.recv_timeout(LET_GO / 2).expect("it goes on");
    }

    #[test]
    fn work_that_nobody_lets_go_goes_on_by_itself() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(!let_go(&folder.path().join("go"), Duration::from_millis(20)));
    }
}
