//! One command at a time.

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Refused, Welcome};

use super::{Shell, journal_failure, seconds_since_1970};
use crate::engine::{Command, Event, Record};
use crate::failure::Failure;
use crate::plan::PlanError;

/// What could not be done, as the engine takes it.
pub(super) struct Trouble(Failure);

impl Trouble {
    pub(super) fn into_event(self) -> Event {
        Event::Trouble { reason: self.0.message, exit_code: self.0.exit_code }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<PlanError> for Trouble {
    fn from(error: PlanError) -> Self {
        Self(Failure { message: error.to_string(), exit_code: error.exit_code() })
    }
}

impl From<crate::journal::JournalError> for Trouble {
    fn from(error: crate::journal::JournalError) -> Self {
        Self(Failure { exit_code: 1, ..journal_failure(error) })
    }
}

impl From<crate::report::Error> for Trouble {
    fn from(error: crate::report::Error) -> Self {
        Self(Failure::other(error))
    }
}

impl Shell {
    /// Does what the engine wants; an answer goes into the queue.
    pub(super) fn carry_out(&mut self, command: Command) -> Result<(), Trouble> {
        match command {
            Command::Admit { stream, rank, incarnation } => {
                let welcome = Welcome {
                    run_id: self.streams.run_id.clone(),
                    incarnation,
                    heartbeat_ms: self.streams.heartbeat_ms,
                    run_json: self.streams.run_json.clone(),
                };
                self.streams.admit(stream, rank, incarnation, Order::Welcome(welcome));
            }
            Command::Refuse { stream, reason } => {
                self.display.say(&format!("refused a worker: {reason}"));
                self.streams.refuse(stream, Order::Refused(Refused { reason }));
            }
            Command::Send { rank, incarnation, epoch, body } => {
                let lost = self.streams.send(rank, incarnation, epoch, *body);
                self.queue.extend(lost);
            }
            Command::Close { rank, incarnation } => self.streams.end(rank, incarnation),
            Command::Journal(record) => self.record(&record)?,
            Command::Plan { stage, number, step, world, .. } => {
                self.history.step_begins();
                let plan = self.planner.plan(stage, number, &world)?;
                self.queue.push_back(Event::Planned { step, plan });
            }
            Command::Score { step, attempt, rollouts, .. } => {
                let scored = self.planner.score(rollouts)?;
                if !scored.rows.is_empty() {
                    self.journal.rollouts(step, attempt, &scored.rows)?;
                }
                self.queue.push_back(Event::Scored { step, plan: scored.plan });
            }
            Command::PlanEvaluation { stage, set, world, .. } => {
                self.history.evaluation_begins();
                let (samples, sampling) = self.planner.plan_evaluation(stage, set, &world)?;
                self.queue.push_back(Event::EvaluationPlanned { samples, sampling });
            }
            Command::ScoreEvaluation { stage, step, set, answers, .. } => {
                let scored = self.planner.score_evaluation(stage, set, step, answers)?;
                self.history.answers(set, step, scored.samples, &scored.answers)?;
                self.queue.push_back(Event::EvaluationScored { metrics: scored.metrics });
            }
            Command::StageCheckpoint(name) => {
                let folder = self.checkpoints.stage(&name)?;
                self.queue.push_back(Event::CheckpointStaged { folder });
            }
            Command::PublishCheckpoint { name, digests, weights_digest } => {
                self.checkpoints.publish(&name, digests, weights_digest, self.events.clone())?;
            }
            Command::RemoveCheckpoint(name) => self.checkpoints.remove(&name),
            Command::Announce(verdict) => self.display.verdict(&verdict),
            Command::End(outcome) => self.outcome = Some(outcome),
        }
        Ok(())
    }

    /// On disk first, then told.
    fn record(&mut self, record: &Record) -> Result<(), Trouble> {
        let written = self.journal.record(record, seconds_since_1970());
        if let Record::Ended { .. } = record {
            // The end must be reached whatever the disk says.
            if let Err(error) = written {
                self.display.say(&error.to_string());
            }
            return Ok(());
        }
        written?;
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
                self.display.say(&format!("checkpoint {}", path.display()));
            }
            Record::Stage(stage) => self.display.stage(stage.stage),
            Record::Epoch(_) | Record::Ended { .. } => {}
        }
        Ok(())
    }
}
