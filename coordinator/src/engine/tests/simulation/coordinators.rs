//! Coordinators: an engine each, a shell that carries out its commands, a term and a journal of its own.

use super::transitions::place;
use super::*;
use crate::terms::{LEASE, may_write};

pub(super) struct Coordinator {
    pub(super) term: u64,
    pub(super) engine: Engine,
    pub(super) started: Duration,
    pub(super) renewed: Duration,
    /// The process lives.
    pub(super) alive: bool,
    /// Its host reaches neither workers nor the disk.
    pub(super) cut: bool,
    /// Its host reaches workers, but not the disk.
    pub(super) diskless: bool,
    /// It dies after so many more commands.
    pub(super) dies_after: Option<u64>,
    pub(super) outcome: Option<Outcome>,
    /// Streams deliver in order: nothing to a rank arrives before this.
    arrived: BTreeMap<Rank, Duration>,
}

impl World {
    /// The newest coordinator that lives, if workers reach it.
    pub(super) fn reachable(&self) -> Option<usize> {
        let last = self.coordinators.len().checked_sub(1)?;
        let coordinator = &self.coordinators[last];
        (coordinator.alive && !coordinator.cut).then_some(last)
    }

    /// An operator (or a queue) starts a coordinator on the folder.
    pub(super) fn start(&mut self) {
        if let Some(last) = self.coordinators.last() {
            let waits = last.alive && self.now - last.renewed < LEASE;
            if last.outcome.is_none() && (waits || (last.alive && !last.cut && !last.diskless)) {
                // It is refused while the other one lives; the operator tries again.
                self.put(seconds(1), What::Start);
                return;
            }
        }
        let term = self.coordinators.last().map_or(0, |c| c.term) + 1;
        let records = self.journals.newest().to_vec();
        let spec = Spec { term, ..self.spec.clone() };
        let mut engine = Engine::resume(spec, Duration::ZERO, &records);
        engine.defect = self.defect;
        self.journals.files.push((term, records));
        let (started, renewed) = (self.now, self.now);
        self.say(|| format!("coordinator of term {term} starts at step {}", engine.committed_step()));
        self.coordinators.push(Coordinator {
            term,
            engine,
            started,
            renewed,
            alive: true,
            cut: false,
            diskless: false,
            dies_after: None,
            outcome: None,
            arrived: BTreeMap::new(),
        });
        if self.spec.respawns {
            for rank in 0..self.spec.ranks() {
                let soon = self.draws.millis(100, 600);
                self.put(soon, What::Boot(rank));
            }
        }
    }

    pub(super) fn tick(&mut self) {
        self.put(Duration::from_millis(500), What::Tick);
        for i in 0..self.coordinators.len() {
            if !self.coordinators[i].alive {
                continue;
            }
            let newest = self.journals.files.last().map_or(0, |(term, _)| *term);
            let coordinator = &mut self.coordinators[i];
            if !coordinator.cut && !coordinator.diskless && newest <= coordinator.term {
                coordinator.renewed = self.now;
            }
            let may = may_write(coordinator.term, newest, self.now - coordinator.renewed);
            if !may && !self.fence_ignored() {
                self.fenced(i);
            }
            self.event(i, Event::Tick);
        }
        self.beat();
    }

    fn fence_ignored(&self) -> bool {
        self.defect == Some(Defect::FenceIgnored)
    }

    fn fenced(&mut self, i: usize) {
        self.hit("a coordinator learns that it was replaced, or cannot know");
        self.event(i, Event::TermLost { reason: "the term is lost".into() });
    }

    pub(super) fn event(&mut self, i: usize, event: Event) {
        let (now, coordinator) = (self.now, &mut self.coordinators[i]);
        if !coordinator.alive {
            return;
        }
        let before = place(&coordinator.engine);
        let commands = coordinator.engine.handle(now - coordinator.started, event);
        let after = place(&coordinator.engine);
        let term = coordinator.term;
        if before != after {
            *self.passed.entry((before, after)).or_default() += 1;
            let verdict = self.coordinators[i].engine.verdict(now - self.coordinators[i].started);
            self.say(|| format!("term {term}: {verdict}"));
        }
        for command in commands {
            if let Some(left) = &mut self.coordinators[i].dies_after {
                if *left == 0 {
                    return self.coordinator_dies(i);
                }
                *left -= 1;
            }
            if !self.carry(i, command) {
                break;
            }
        }
    }

    pub(super) fn coordinator_dies(&mut self, i: usize) {
        let term = self.coordinators[i].term;
        self.say(|| format!("coordinator of term {term} dies"));
        self.coordinators[i].alive = false;
        let soon = self.draws.millis(300, 4_000);
        self.put(soon, What::Start);
        self.streams_break(i);
        if self.spec.respawns {
            for rank in 0..self.spec.ranks() {
                self.kill(rank, false);
            }
        }
    }

    /// Does what the engine wants; whether the rest of the list may follow.
    fn carry(&mut self, i: usize, command: Command) -> bool {
        let term = self.coordinators[i].term;
        match command {
            Command::Admit { stream, rank, incarnation } => self.admitted(i, stream, rank, incarnation),
            Command::Refuse { stream, .. } => self.refused(stream),
            Command::Send { rank, incarnation, epoch, body } => {
                self.check_order(term, rank, incarnation, epoch, &body);
                let at = self.delivery(i, rank);
                self.put_at(at, What::Order { rank, incarnation, term, epoch, body });
            }
            Command::Close { rank, incarnation } => {
                let at = self.delivery(i, rank);
                self.put_at(at, What::Closed { rank, incarnation });
            }
            Command::Restart { rank } => {
                self.hit("a worker is started again by its launcher");
                self.kill(rank, false);
                let soon = self.draws.millis(100, 900);
                self.put(soon, What::Boot(rank));
            }
            Command::Journal(record) => return self.write(i, record),
            Command::OpenCheckpoint(name) if self.draws.one_in(8) => {
                self.hit("a checkpoint that is broken");
                self.put(Duration::from_millis(5), What::Event(i, Event::CheckpointBroken { name }));
            }
            Command::End(outcome) => {
                if outcome == Outcome::Interrupted {
                    self.hit("a run that stops as asked");
                }
                self.say(|| format!("term {term} ends: {outcome:?}"));
                let again = outcome != Outcome::Finished;
                if let Outcome::Failed { reason, .. } = &outcome
                    && reason.contains("differ")
                {
                    self.violate("ST-1", || reason.clone());
                }
                self.coordinators[i].outcome = Some(outcome);
                self.coordinators[i].alive = false;
                self.streams_break(i);
                if again {
                    if self.spec.respawns {
                        (0..self.spec.ranks()).for_each(|rank| self.kill(rank, false));
                    }
                    self.put(seconds(1), What::Start);
                }
            }
            other => {
                if let Command::Score { step, .. } = other {
                    self.scored.insert(step);
                }
                let known = matches!(&other, Command::Plan { step, .. } if self.scored.contains(step));
                if let Some(event) = if known { updated_at_once(&other) } else { carry_out(&other) } {
                    // Large files take their time.
                    let most = if matches!(other, Command::PublishCheckpoint { .. }) { 3_000 } else { 50 };
                    let delay = self.draws.millis(0, most);
                    self.put(delay, What::Event(i, event));
                }
            }
        }
        true
    }

    fn delivery(&mut self, i: usize, rank: Rank) -> Duration {
        let at = self.now + self.draws.millis(1, 60);
        let at = at.max(self.coordinators[i].arrived.get(&rank).copied().unwrap_or_default());
        self.coordinators[i].arrived.insert(rank, at);
        at
    }

    fn write(&mut self, i: usize, record: Record) -> bool {
        let newest = self.journals.files.last().map_or(0, |(term, _)| *term);
        let Coordinator { term, renewed, cut, diskless, .. } = self.coordinators[i];
        let may = may_write(term, newest, self.now - renewed) && !cut && !diskless;
        if !may && !self.fence_ignored() {
            if !matches!(record, Record::Ended { .. }) {
                self.fenced(i);
            }
            return matches!(record, Record::Ended { .. });
        }
        let before = self.journals.of(term).to_vec();
        self.check_record(term, &before, &record);
        self.hit(kind_of(&record));
        self.say(|| format!("term {term} journals {}", short(&record)));
        if let Some((_, records)) = self.journals.files.iter_mut().find(|(t, _)| *t == term) {
            records.push(record);
        }
        true
    }
}

fn short(record: &Record) -> String {
    let text = format!("{record:?}");
    text.chars().take(150).collect()
}

fn kind_of(record: &Record) -> String {
    let text = match record {
        Record::Epoch(_) => "an epoch",
        Record::Stage(_) => "a stage",
        Record::Step(_) => "a step",
        Record::Discarded(_) => "a discarded step",
        Record::Suspected(SuspectRecord { searching: false, .. }) => "a first strike",
        Record::Suspected(suspects) if suspects.samples.is_empty() => "a search that ends with nobody",
        Record::Suspected(_) => "a search that goes on",
        Record::Quarantined(_) => "a sample in quarantine",
        Record::Restored(RestoredRecord { source: Source::Member(_), .. }) => "state from a member",
        Record::Restored(RestoredRecord { source: Source::Mirrors(_), .. }) => "state from mirrors",
        Record::Restored(RestoredRecord { source: Source::Checkpoint(_), .. }) => "state from a checkpoint",
        Record::Restored(_) => "a run that begins again",
        Record::Evaluation(_) => "an evaluation",
        Record::Checkpoint(_) => "a checkpoint",
        Record::Ended { .. } => "an end",
    };
    text.to_owned()
}
