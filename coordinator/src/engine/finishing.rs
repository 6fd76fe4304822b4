//! The end: everybody is told to stop, and gets a moment to do so.

use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{AbortCollectives, Stop};

use super::state::State;
use super::{Command, Engine, Outcome, Rank, Record};

/// What workers get to leave by themselves.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same after a failure, when some may hang in a collective.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);

impl Engine {
    /// The run cannot go on.
    pub(super) fn fail(&mut self, now: Duration, reason: String, exit_code: u8, out: &mut Vec<Command>) {
        if matches!(self.state, State::Finishing { .. } | State::Ended(_)) {
            return;
        }
        for rank in self.world.clone() {
            self.send(rank, Order::AbortCollectives(AbortCollectives {}), out);
        }
        self.finish(now, Outcome::Failed { reason, exit_code }, out);
    }

    /// The run is another coordinator's, and so are its workers: nothing is said to them, and nothing written.
    pub(super) fn lose_term(&mut self, reason: String, out: &mut Vec<Command>) {
        self.world.clear();
        self.end_as(Outcome::Failed { reason, exit_code: 75 }, out);
    }

    /// Ends here and now.
    pub(super) fn end_as(&mut self, outcome: Outcome, out: &mut Vec<Command>) {
        self.state = State::Ended(outcome.clone());
        out.push(Command::End(outcome));
    }

    pub(super) fn finish(&mut self, now: Duration, outcome: Outcome, out: &mut Vec<Command>) {
        let (reason, patience) = match &outcome {
            Outcome::Finished => ("the run is finished".to_owned(), PATIENCE),
            Outcome::Interrupted => ("the run was stopped by a person".to_owned(), PATIENCE),
            Outcome::Failed { reason, .. } => (reason.clone(), SHORT_PATIENCE),
        };
        let live: Vec<Rank> =
            self.members.all().iter().filter(|(_, m)| m.is_live()).map(|(r, _)| *r).collect();
        for rank in live {
            self.send(rank, Order::Stop(Stop { reason: reason.clone() }), out);
        }
        self.state = State::Finishing { deadline: now + patience, outcome };
        self.end_if_empty(out);
    }

    pub(super) fn end_if_empty(&mut self, out: &mut Vec<Command>) {
        if self.members.live_count() == 0 {
            self.end(out);
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<Command>) {
        let State::Finishing { outcome, .. } = &self.state else { return };
        let outcome = outcome.clone();
        let text = match &outcome {
            Outcome::Finished => "finished".to_owned(),
            Outcome::Interrupted => "interrupted".to_owned(),
            Outcome::Failed { reason, .. } => reason.clone(),
        };
        self.world.clear();
        self.state = State::Ended(outcome.clone());
        self.journal(Record::Ended { outcome: text }, out);
        out.push(Command::End(outcome));
    }
}
