//! Planned faults: what a recipe says is to go wrong on this rank, at which step and moment.

mod group;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use settings::{Fault, FaultAction, Phase};
use tracing::warn;

pub use group::Striking;

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(3600);

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
        warn!(sample = ?fault.sample, ?phase, action = ?fault.action, before, "planned fault");
        act(fault.action);
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
        act(fault.action);
    }

    /// Whether it has struck in this run; notes that it does now.
    fn has_struck(&self, place: usize) -> bool {
        let path = self.0.folder.join(format!("fault-{place}.struck"));
        if fs::read_to_string(&path).is_ok_and(|run_id| run_id == self.0.run_id) {
            return true;
        }
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0.folder)?;
            fs::write(&path, &self.0.run_id)
        };
        if let Err(error) = write() {
            warn!("{}: {error}: the fault will strike again", path.display());
        }
        false
    }
}

fn act(action: FaultAction) {
    match action {
        FaultAction::Kill => signal(libc::SIGKILL),
        FaultAction::Stop => signal(libc::SIGSTOP),
        // SAFETY: it takes no pointers and does not return.
        FaultAction::Exit => unsafe { libc::_exit(3) },
        FaultAction::Hang => loop {
            thread::sleep(FOR_EVER);
        },
    }
}

fn signal(number: libc::c_int) {
    // SAFETY: kill takes no pointers; what it does to this process is the fault's purpose.
    unsafe { libc::kill(libc::getpid(), number) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_of_one_rank_step_and_phase_and_strikes_once_a_run() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = format!("run.output={}", folder.path().display());
        let mut run = settings::default_run(&[output]).expect("defaults");
        let fault = |rank, phase| Fault {
            rank: Some(rank),
            step: Some(2),
            sample: None,
            phase,
            action: FaultAction::Kill,
        };
        run.faults = vec![fault(0, Phase::Update), fault(1, Phase::Backward)];
        let faults = Faults::of(&run, "a", 1);
        assert!(faults.planned(2, Phase::Backward));
        assert!(!faults.planned(2, Phase::Update) && !faults.planned(1, Phase::Backward));
        faults.strike(2, Phase::Update);
        assert_eq!([1, 1].map(|place| faults.has_struck(place)), [false, true]);
        assert!(!Faults::of(&run, "b", 1).has_struck(1), "another run in the folder has its own");
    }
}
