//! What members say: stale messages are dropped, the rest goes to the state that waits for it.

use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::worker_message::Body as Report;
use proto::v1::{Discard, WorkFailed};

use super::failing::{Sign, StreamEnd};
use super::state::State;
use super::{Command, Engine, MemberState, Outcome, Rank, Sender};

impl Engine {
    pub(super) fn on_message(&mut self, now: Duration, sender: Sender, body: Report, out: &mut Vec<Command>) {
        let Sender { rank, incarnation, epoch, term } = sender;
        if term != self.spec.term {
            return;
        }
        if self.members.same(rank, incarnation).is_none() {
            return;
        }
        let active = self.world.contains(&rank);
        self.members.hear(now, rank, active);
        match body {
            Report::Heartbeat(heartbeat) => return self.members.heartbeat(now, rank, heartbeat),
            Report::Left(_) => return self.on_left(now, rank, out),
            Report::Leaving(leaving) => {
                let deadline = now + Duration::from_secs(leaving.seconds.into());
                self.members.leaving(rank, deadline);
                if matches!(self.state, State::Paused) {
                    self.advance(now, out);
                }
                return;
            }
            // An answer to a commit that was sent once more to a member that stands by.
            Report::Applied(applied) if !active && epoch == self.epoch => {
                return self.on_applied(now, rank, applied, out);
            }
            Report::WorkFailed(WorkFailed { reason, wrong_input: false }) if !active => {
                // Of work that was dropped meanwhile: another process is to have the next.
                let sign = Sign::WorkFailed { reason, wrong_input: false };
                return self.lose_outside(now, rank, &sign, out);
            }
            Report::WorkFailed(WorkFailed { reason, wrong_input: true }) if !active && self.at.is_some() => {
                // The run has gone on without it, or with its host as it was: others may go on.
                let sign = Sign::WorkFailed { reason, wrong_input: true };
                return self.lose_outside(now, rank, &sign, out);
            }
            // The same, and it has newer work already.
            Report::WorkFailed(WorkFailed { wrong_input: false, .. }) if epoch != self.epoch => return,
            Report::WorkFailed(WorkFailed { reason, wrong_input }) => {
                return self.suspect(now, rank, Sign::WorkFailed { reason, wrong_input }, out);
            }
            _ => {}
        }
        if epoch != self.epoch || !active {
            return;
        }
        if let Some(member) = self.members.same(rank, incarnation) {
            member.advanced = now;
        }
        match body {
            Report::StoreReady(ready) => self.on_store_ready(rank, &ready.address, out),
            Report::Formed(formed) => self.on_formed(now, rank, formed, out),
            Report::Restored(restored) => self.on_restored(now, rank, restored, out),
            Report::StageReady(ready) => self.on_stage_ready(now, rank, ready, out),
            Report::RolloutsReady(ready) => self.on_rollouts_ready(now, rank, ready, out),
            Report::StepReady(ready) => self.on_step_ready(now, rank, ready, out),
            Report::Applied(applied) => self.on_applied(now, rank, applied, out),
            Report::Evaluated(evaluated) => self.on_evaluated(now, rank, evaluated, out),
            Report::CheckpointWritten(written) => self.on_checkpoint_written(rank, written, out),
            Report::CollectiveFailed(failed) => {
                self.suspect(now, rank, Sign::CollectiveFailed(failed.reason), out);
            }
            Report::Join(_)
            | Report::Heartbeat(_)
            | Report::Left(_)
            | Report::Leaving(_)
            | Report::WorkFailed(_) => {}
        }
    }

    fn on_left(&mut self, now: Duration, rank: Rank, out: &mut Vec<Command>) {
        if !matches!(self.state, State::Finishing { .. }) {
            return self.suspect(now, rank, Sign::LeftUnasked, out);
        }
        if let Some(member) = self.members.live(rank) {
            out.push(Command::Close { rank, incarnation: member.incarnation });
        }
        self.members.leave(rank);
        self.end_if_empty(out);
    }

    pub(super) fn on_stream_end(
        &mut self,
        now: Duration,
        rank: Rank,
        incarnation: u64,
        StreamEnd { reason, lives }: StreamEnd,
        out: &mut Vec<Command>,
    ) {
        let Some(member) = self.members.same(rank, incarnation) else { return };
        // Who was told to end did so.
        let lives = lives || matches!(member.state, MemberState::Leaving { .. });
        match &self.state {
            // Nothing depends on it: its rank is free again.
            state if !state.is_over() && !self.world.contains(&rank) => {
                self.members.bury(now, rank, reason);
            }
            State::Finishing { .. } => {
                self.members.leave(rank);
                self.end_if_empty(out);
            }
            _ => self.suspect(now, rank, Sign::Disconnected(StreamEnd { reason, lives }), out),
        }
    }

    pub(super) fn on_interrupted(&mut self, now: Duration, out: &mut Vec<Command>) {
        if self.interrupted {
            return;
        }
        self.interrupted = true;
        match &self.state {
            State::Paused => self.drain(now, out),
            State::Waiting { .. } => self.drain_without_world(now, out),
            // They come to a world that can.
            State::Forming { .. } | State::Restoring(_) if self.has_unsaved() => {}
            State::Forming { .. } | State::Restoring(_) | State::Staging { .. } => {
                self.finish(now, Outcome::Interrupted, out);
            }
            State::Stepping(stepping) => {
                if stepping.is_prepared_soon() {
                    return;
                }
                let order = Order::Discard(Discard { step: stepping.step });
                self.send_world(&order, out);
                self.drain(now, out);
            }
            State::Evaluating { .. } => self.drain(now, out),
            State::Checkpointing { .. } | State::Failing(_) | State::Finishing { .. } | State::Ended(_) => {}
        }
    }
}
