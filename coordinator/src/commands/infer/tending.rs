//! The workers of an inference while they work: one that dies is started again, and goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use judge::{Done, Meter, Share, Work};
use settings::Hosts;
use tokio::sync::mpsc;

use super::progress::Progress;
use crate::engine::{Event, Exit, Rank};
use crate::failure::Failure;
use crate::folder::RunFolder;
use crate::launch::{WorkerSpec, Workers};

/// Deaths of a worker after which it is not started again, if it judged no batch between them.
const MOST_DEATHS: u32 = 3;

/// Between two looks at how far the work is.
const LOOK: Duration = Duration::from_secs(1);

/// Starts all workers and returns when each has judged its share.
///
/// # Errors
/// If one cannot be started, says that the input is wrong, or dies again and again.
pub(super) async fn tend(
    hosts: &Hosts,
    program: Option<&Path>,
    workers: &[WorkerSpec],
    work: &Work,
    folder: &RunFolder,
) -> Result<(), Failure> {
    let (events, mut inbox) = mpsc::unbounded_channel();
    let (mut all, _) = Workers::start(hosts, program, workers, "", (folder, &folder.mark()?), &events)?;
    let mut tending = Tending {
        work,
        meter: Meter::default(),
        progress: Progress::new(work.items.len()),
        shares: workers.len(),
        working: workers.iter().map(|worker| worker.rank).collect(),
        deaths: BTreeMap::new(),
    };
    let mut tick = tokio::time::interval(LOOK);
    let ended = loop {
        let event = tokio::select! {
            event = inbox.recv() => event,
            _ = tick.tick() => {
                tending.look();
                continue;
            }
        };
        match event.map_or(Ok(Next::Wait), |event| tending.take(event)) {
            Ok(Next::Wait) => {}
            Ok(Next::Over) => break Ok(()),
            Ok(Next::Restart(rank)) => {
                if let Err(failure) = all.restart(rank) {
                    break Err(failure);
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    all.end().await;
    tending.progress.finish();
    ended
}

struct Tending<'a> {
    work: &'a Work,
    meter: Meter,
    progress: Progress,
    shares: usize,
    /// Whose share is not done.
    working: BTreeSet<Rank>,
    /// Deaths since its last batch, and how many batches those were.
    deaths: BTreeMap<Rank, (u32, usize)>,
}

/// What follows from an event.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait,
    Restart(Rank),
    Over,
}

impl Tending<'_> {
    fn look(&mut self) {
        self.meter.look(self.work);
        self.progress.show(self.meter.items(self.work));
    }

    fn take(&mut self, event: Event) -> Result<Next, Failure> {
        let (rank, exit, last_lines) = match event {
            Event::Exited { rank, exit, last_lines, .. } => (rank, exit, last_lines),
            Event::Trouble { reason, exit_code } => return Err(Failure { message: reason, exit_code }),
            _ => return Ok(Next::Wait),
        };
        let said = last_lines.last().map_or("", |line| line.trim_start_matches("worker: "));
        match exit {
            Exit::Code(0) => {
                self.working.remove(&rank);
                return Ok(if self.working.is_empty() { Next::Over } else { Next::Wait });
            }
            Exit::Code(2) => return Err(Failure::input(format!("rank {rank}: {said}"))),
            Exit::Code(_) | Exit::Signal(_) => {}
        }
        self.look();
        let judged = self.meter.of_share(self.work, rank as usize);
        let (deaths, before) = self.deaths.entry(rank).or_default();
        if judged > *before {
            (*deaths, *before) = (0, judged);
        }
        *deaths += 1;
        if *deaths == MOST_DEATHS {
            return Err(Failure::other(format!(
                "rank {rank} has died {MOST_DEATHS} times{}, at last by {exit}: {said}; what is judged is kept: the same \
                 command goes on with it",
                self.place(rank)
            )));
        }
        self.progress.say(&format!("rank {rank} died ({exit}) and is started again: {said}"));
        Ok(Next::Restart(rank))
    }

    /// At which batch a rank is, in words.
    fn place(&self, rank: Rank) -> String {
        let (share, done) = (Share { index: rank as usize, of: self.shares }, Done::read(self.work));
        let is_next = |batch: &usize| share.has(*batch) && !done.as_ref().is_ok_and(|done| done.has(*batch));
        let next = (0..self.work.batches()).find(is_next).unwrap_or_default();
        let names: Vec<&str> = self.work.batch(next).iter().map(|item| item.name.as_str()).collect();
        format!(" at the same batch ({})", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser as _;
    use judge::{Asked, Journal, Verdict};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        asked: Asked,
    }

    /// Six pictures in batches of one, judged by two ranks.
    fn check(test: impl FnOnce(&Work, Tending<'_>)) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d", "e", "f"] {
            std::fs::write(folder.path().join(format!("{name}.png")), b"x").unwrap();
        }
        let place = folder.path().display();
        let line = format!("infer --model=/ --batch=1 --images={place} --output={place}/scores");
        let work = Work::of(&Line::parse_from(line.split(' ')).asked).unwrap();
        let (meter, working) = (Meter::default(), BTreeSet::from([0, 1]));
        let progress = Progress::new(work.items.len());
        let tending = Tending { work: &work, meter, progress, shares: 2, working, deaths: BTreeMap::new() };
        test(&work, tending);
    }

    fn exited(rank: Rank, exit: Exit, said: &str) -> Event {
        Event::Exited { rank, process: 1, exit, last_lines: vec![said.into()] }
    }

    #[test]
    fn the_work_is_over_when_every_share_is() {
        check(|_, mut tending| {
            assert_eq!(tending.take(exited(1, Exit::Code(0), "")), Ok(Next::Wait));
            assert_eq!(tending.take(exited(0, Exit::Code(0), "")), Ok(Next::Over));
        });
    }

    #[test]
    fn wrong_input_ends_the_work_with_the_workers_word() {
        check(|_, mut tending| {
            let said = tending.take(exited(1, Exit::Code(2), "worker: /m: expected a model")).unwrap_err();
            assert_eq!((said.message.as_str(), said.exit_code), ("rank 1: /m: expected a model", 2));
            let trouble = Event::Trouble { reason: "no host".into(), exit_code: 75 };
            assert_eq!(tending.take(trouble).unwrap_err().exit_code, 75);
        });
    }

    #[test]
    fn a_worker_that_dies_goes_on_until_it_dies_three_times_at_one_batch() {
        check(|work, mut tending| {
            let killed = || exited(1, Exit::Signal(9), "reading b.png");
            let (mut journal, _) = Journal::open(work, Some("1/2".parse().unwrap())).unwrap();
            for (batch, name) in [(1, "b.png"), (3, "d.png")] {
                for _ in 0..2 {
                    assert_eq!(tending.take(killed()), Ok(Next::Restart(1)));
                }
                let verdict = Verdict::Failed { path: name.into(), error: "e".into() };
                journal.add(batch, &[verdict]).unwrap();
            }
            for _ in 0..2 {
                assert_eq!(tending.take(killed()), Ok(Next::Restart(1)));
            }
            assert_eq!(tending.take(exited(0, Exit::Code(1), "no room")), Ok(Next::Restart(0)));
            let said = tending.take(killed()).unwrap_err();
            let words =
                "rank 1 has died 3 times at the same batch (f.png), at last by signal 9 (SIGKILL): reading";
            assert!(said.message.starts_with(words) && said.exit_code == 1, "{said}");
        });
    }
}
