//! What the engine knows by its records: the same whether it wrote them itself or takes up a run that another
//! coordinator left.

use std::time::Duration;

use super::agenda::Activity;
use super::{CheckpointRecord, Command, Defect, Engine, EpochRecord, Record, Source, Spec};

/// The newest committed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) step: u64,
    pub(crate) attempt: u32,
    pub(crate) skip: bool,
}

/// The state that every member must hold to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Whose optimizer.
    pub(crate) stage: usize,
    /// Steps of the stage done.
    pub(crate) number: u64,
    /// The newest committed step, over all stages.
    pub(crate) step: u64,
}

impl Engine {
    /// Takes up a run whose journal holds `records`, in the order that they were written.
    #[must_use]
    pub fn resume(spec: Spec, now: Duration, records: &[Record]) -> Self {
        let mut engine = Self::new(spec, now);
        for record in records {
            engine.note(record);
        }
        if engine.committed_by() == 0 {
            // No step since a checkpoint was opened: workers may have opened it once more, for a world that no record
            // says to have begun, and what they hold says the same.
            engine.cut.clear();
        }
        engine
    }

    /// Has a record written, and knows it from here on.
    pub(super) fn journal(&mut self, record: Record, out: &mut Vec<Command>) {
        self.note(&record);
        out.push(Command::Journal(record));
    }

    /// What a record changes.
    fn note(&mut self, record: &Record) {
        match record {
            Record::Epoch(EpochRecord { epoch, hosts, .. }) => {
                self.epoch = *epoch;
                self.placed = hosts.iter().map(|(rank, host)| (*rank, host.clone())).collect();
            }
            Record::Stage(stage) => {
                self.cut.clone_from(&self.placed);
                self.consecutive_skips = 0;
                self.weights_digest.clone_from(&stage.digest);
                self.at = Some(At { stage: stage.stage, number: 0, step: self.committed_step() });
                self.done = Some(Activity::BeginStage { stage: stage.stage });
            }
            Record::Step(step) => {
                self.consecutive_skips = if step.skip { self.consecutive_skips + 1 } else { 0 };
                if step.step > self.furthest {
                    (self.furthest, self.losses) = (step.step, 0);
                }
                self.quarantine.committed(step.step);
                self.weights_digest.clear();
                self.committed = Some(Committed { step: step.step, attempt: step.attempt, skip: step.skip });
                self.at = Some(At { stage: step.stage, number: step.number, step: step.step });
                if !self.broken(Defect::CommittedRepeated) {
                    self.done = Some(Activity::Step { stage: step.stage, number: step.number });
                }
            }
            Record::Evaluation(e) => {
                let (stage, done, set, moment) = (e.stage, e.number, e.set, e.moment);
                self.done = Some(Activity::Evaluate { stage, done, set, moment });
                if let Some(srcc) = e.srcc
                    && self.best.is_none_or(|(of, _, most)| of != stage || srcc > most)
                {
                    self.best = Some((stage, e.step, srcc));
                }
                if let Some(spec) = self.spec.stages.get_mut(stage).filter(|_| e.stop) {
                    spec.steps = done;
                }
            }
            Record::Checkpoint(checkpoint) => {
                self.checkpoints.retain(|known| known.name != checkpoint.name);
                self.checkpoints.push(checkpoint.clone());
                // One that was written out of turn, because somebody was to go, leaves to do what comes before it.
                if self.upcoming() == activity_of(checkpoint) {
                    self.done = Some(activity_of(checkpoint));
                }
                self.done_at.extend(self.done.map(|done| (checkpoint.name.clone(), done)));
            }
            Record::Restored(restored) => self.note_restored(restored.to, &restored.source),
            Record::Suspected(suspects) => self.quarantine.suspect(suspects),
            Record::Quarantined(sample) => self.quarantine.keep(sample),
            Record::Discarded(_) | Record::Ended { .. } => {}
        }
    }

    fn note_restored(&mut self, to: u64, source: &Source) {
        self.cut.clone_from(&self.placed);
        match source {
            Source::Member(_) | Source::Mirrors(_) => {}
            Source::Start => {
                (self.committed, self.at, self.done) = (None, None, None);
                self.checkpoints.clear();
                self.weights_digest.clear();
            }
            Source::Checkpoint(name) => {
                let Some(place) = self.checkpoints.iter().position(|c| c.name == *name) else { return };
                self.checkpoints.truncate(place + 1);
                let checkpoint = self.checkpoints[place].clone();
                // Whoever holds the step took part in another future: nobody may commit it once more.
                self.committed = Some(Committed { step: to, attempt: 0, skip: false }).filter(|_| to > 0);
                self.at =
                    Some(At { stage: checkpoint.stage, number: checkpoint.number, step: checkpoint.step });
                self.done = self.done_at.get(&checkpoint.name).copied();
                self.weights_digest.clone_from(&checkpoint.digest);
            }
        }
        if !matches!(source, Source::Member(_) | Source::Mirrors(_)) {
            self.consecutive_skips = 0;
            self.publishing.values_mut().for_each(|under_way| under_way.stands = false);
        }
    }

    /// The newest committed step over all stages; 0 before the first.
    #[must_use]
    pub fn committed_step(&self) -> u64 {
        self.committed.map_or(0, |committed| committed.step)
    }

    /// The newest step that a checkpoint holds.
    pub(super) fn checkpointed_step(&self) -> u64 {
        self.checkpoints.last().map_or(0, |checkpoint| checkpoint.step)
    }

    /// What the agenda has next.
    pub(super) fn upcoming(&self) -> Activity {
        self.done.map_or_else(|| Activity::first(&self.spec.stages), |done| done.next(&self.spec.stages))
    }

    /// Whether the engine was given a defect, which only tests do.
    pub(super) fn broken(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

/// What was done when it was written, if it was its turn.
pub(super) fn activity_of(checkpoint: &CheckpointRecord) -> Activity {
    let CheckpointRecord { stage, number, stage_end, .. } = *checkpoint;
    Activity::Checkpoint { stage, done: number, stage_end }
}
