//! One command at a time.

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Refused, Welcome};

use super::{Shell, seconds_since_1970};
use crate::engine::{
    Command, Event, QuarantineRecord, Record, RestoredRecord, Source, SuspectRecord, Verdict,
};
use crate::failure::Failure;
use crate::plan::PlanError;
use crate::terms::TermError;

/// What could not be done, as the engine takes it.
pub(super) enum Trouble {
    Failed(Failure),
    TermLost(TermError),
}

impl Trouble {
    pub(super) fn into_event(self) -> Event {
        match self {
            Self::Failed(Failure { message, exit_code }) => Event::Trouble { reason: message, exit_code },
            Self::TermLost(lost) => Event::TermLost { reason: lost.to_string() },
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<TermError> for Trouble {
    fn from(error: TermError) -> Self {
        if error.is_loss() { Self::TermLost(error) } else { Failure::retry(error).into() }
    }
}

impl From<PlanError> for Trouble {
    fn from(error: PlanError) -> Self {
        Failure { message: error.to_string(), exit_code: error.exit_code() }.into()
    }
}

impl From<crate::journal::JournalError> for Trouble {
    fn from(error: crate::journal::JournalError) -> Self {
        Failure::other(error).into()
    }
}

impl From<crate::report::Error> for Trouble {
    fn from(error: crate::report::Error) -> Self {
        Failure::other(error).into()
    }
}

impl Shell {
    /// Does what the engine wants; an answer goes into the queue.
    pub(super) fn carry_out(&mut self, command: Command) -> Result<(), Trouble> {
        if changes_the_folder(&command) {
            self.fence.check()?;
        }
        match command {
            Command::Admit { stream, rank, incarnation } => {
                let welcome = Welcome {
                    run_id: self.streams.run_id.clone(),
                    incarnation,
                    heartbeat_ms: self.streams.heartbeat_ms,
                    run_json: self.streams.run_json.clone(),
                    mark: self.streams.mark.clone(),
                };
                self.streams.admit(stream, rank, incarnation, Order::Welcome(welcome));
            }
            Command::Refuse { stream, reason, again } => {
                self.display.refused(&reason);
                self.streams.refuse(stream, Order::Refused(Refused { reason, again }));
            }
            Command::Send { rank, incarnation, epoch, body } => {
                let lost = self.streams.send(rank, incarnation, epoch, *body);
                self.queue.extend(lost);
            }
            Command::Close { rank, incarnation } => self.streams.end(rank, incarnation),
            Command::Restart { rank } => {
                self.children.as_mut().map_or(Ok(()), |children| children.restart(rank))?;
            }
            Command::Journal(record) => self.record(&record)?,
            Command::Plan { stage, number, step, attempt, world, choice } => {
                self.history.step_begins();
                let before = self.journal.cursor(stage, step.saturating_sub(1))?;
                let drawn_at = step - self.planner.drawn_before(stage, number);
                let recorded = self.journal.rollouts_of(drawn_at)?;
                let given = (recorded.as_slice(), &choice);
                let plan = self.planner.plan(stage, number, &world, before.as_deref(), given)?;
                self.queue.push_back(Event::Planned { step, attempt, plan });
            }
            Command::Score { step, attempt, rollouts, .. } => {
                let scored = self.planner.score(rollouts)?;
                if !scored.rows.is_empty() {
                    self.journal.rollouts(step, attempt, &scored.rows)?;
                }
                self.queue.push_back(Event::Scored { step, attempt, plan: scored.plan });
            }
            Command::PlanEvaluation { epoch, stage, set, world, .. } => {
                self.history.evaluation_begins();
                let (samples, sampling) = self.planner.plan_evaluation(stage, set, &world)?;
                self.queue.push_back(Event::EvaluationPlanned { epoch, samples, sampling });
            }
            Command::ScoreEvaluation { epoch, stage, step, set, answers, .. } => {
                let scored = self.planner.score_evaluation(stage, set, step, answers)?;
                self.history.answers(set, step, scored.samples, &scored.answers)?;
                self.queue.push_back(Event::EvaluationScored { epoch, metrics: scored.metrics });
            }
            Command::StageCheckpoint { name, epoch } => {
                let folder = self.checkpoints.stage(&name, epoch)?;
                self.queue.push_back(Event::CheckpointStaged { epoch, folder });
            }
            Command::PublishCheckpoint { about, digests } => {
                self.checkpoints.publish(about, digests, self.events.clone())?;
            }
            Command::OpenCheckpoint(name) => self.checkpoints.open(name, self.events.clone()),
            Command::RemoveCheckpoint(name) => self.checkpoints.remove(&name),
            Command::Announce(verdict) => self.announce(&verdict),
            Command::End(outcome) => self.outcome = Some(outcome),
        }
        Ok(())
    }

    /// Tells a new state, and after a loss how long it took until work went on.
    fn announce(&mut self, verdict: &Verdict) {
        if std::mem::replace(&mut self.state, verdict.state) != verdict.state {
            self.tell_status();
        }
        self.display.verdict(verdict);
        let now = self.started.elapsed();
        match verdict.state {
            // Where a sign needs no better one, nothing is gathered first.
            state if state == "failing" || (state == "waiting" && self.engine.waits_after_a_loss()) => {
                self.lost.get_or_insert(now);
            }
            "running" => {
                if let Some(lost) = self.lost.take() {
                    let time = now.saturating_sub(lost).as_secs_f64();
                    self.display.say(&format!("running again {time:.1} s after the loss was seen"));
                }
            }
            _ => {}
        }
    }

    /// On disk first, then told; nothing, where another coordinator has taken over.
    fn record(&mut self, record: &Record) -> Result<(), Trouble> {
        if let Err(error) = self.fence.check() {
            if let Record::Ended { .. } = record {
                return Ok(());
            }
            return Err(error.into());
        }
        let written = self.journal.record(record, seconds_since_1970());
        if let Record::Ended { .. } = record {
            // The end must be reached whatever the disk says.
            if let Err(error) = written {
                self.display.say(&error.to_string());
            }
            return Ok(());
        }
        written?;
        // The write may have taken long: what another coordinator has not read is told to nobody.
        self.fence.check()?;
        match record {
            Record::Step(step) => {
                let line = self.history.step(step)?;
                self.display.step(&line);
            }
            Record::Evaluation(evaluation) => {
                let line = self.history.evaluation(evaluation)?;
                self.display.evaluation(&line);
            }
            Record::Checkpoint(checkpoint) => {
                let path = self.checkpoints.published(&checkpoint.name)?;
                self.checkpoints.measured(self.journal.lead())?;
                self.display.say(&format!("checkpoint {}", path.display()));
            }
            Record::Stage(stage) => self.display.stage(stage.stage),
            Record::Discarded(discard) => {
                self.display.say(&format!("step {} is repeated: {}", discard.step, discard.reason));
            }
            Record::Suspected(suspects) => self.display.say(&suspicion(suspects)),
            Record::Quarantined(found) => self.display.say(&format!("quarantine: {}", quarantine(found))),
            Record::Restored(restored) => self.display.say(&restoration(restored)),
            Record::Epoch(epoch) if epoch.epoch > 1 => {
                let size = epoch.members.len();
                self.display.say(&format!("epoch {}: {size} workers", epoch.epoch));
            }
            Record::Epoch(_) | Record::Ended { .. } => {}
        }
        Ok(())
    }
}

/// Whether it writes into the run folder, or ends what does. A record is looked at where it is written.
fn changes_the_folder(command: &Command) -> bool {
    matches!(
        command,
        Command::Restart { .. }
            | Command::Score { .. }
            | Command::ScoreEvaluation { .. }
            | Command::StageCheckpoint { .. }
            | Command::PublishCheckpoint { .. }
            | Command::RemoveCheckpoint(_)
    )
}

/// What is known of a loss over samples, for people.
fn suspicion(SuspectRecord { step, searching, samples, .. }: &SuspectRecord) -> String {
    match (searching, samples.len()) {
        (false, 0) => format!("step {step}: the worker is back, and its samples are cleared"),
        (false, count) => format!(
            "step {step}: the worker had {count} samples under way; should another be lost over the same ones, the \
             sample that does it is searched for"
        ),
        (true, 0) => format!("step {step}: no sample is to blame, the search is over"),
        (true, 1) => {
            format!("step {step}: workers die on {:?}, or on no sample: it is tried alone", samples[0])
        }
        (true, count) => {
            format!("step {step}: workers may die on one of {count} samples: half of them are tried alone")
        }
    }
}

/// A sample that is left out, for people.
fn quarantine(QuarantineRecord { step, sample, reason }: &QuarantineRecord) -> String {
    format!(
        "workers die on sample {sample:?} (found in step {step}); it is left out from here on. The last: {reason}"
    )
}

/// What a restoration cost, for people.
fn restoration(restored: &RestoredRecord) -> String {
    let RestoredRecord { from, to, source, sent } = restored;
    let sent = *sent as f64 / 1e6;
    let repeated = match from - to {
        0 => "no step is repeated".to_owned(),
        1 => format!("step {from} is repeated"),
        _ => format!("{} steps are repeated, {} to {from}", from - to, to + 1),
    };
    match source {
        Source::Member(_) | Source::Mirrors(_) => {
            format!(
                "state after step {to} came from {source}: {repeated}; {sent:.1} MB went from rank to rank"
            )
        }
        Source::Checkpoint(name) => format!("state came from checkpoint {name}: {repeated}"),
        Source::Start => {
            format!("no checkpoint and no worker holds the run's state, it begins again: {repeated}")
        }
    }
}
