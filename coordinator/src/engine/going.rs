//! What comes next: the agenda, unless a person or the membership has something before it.

use std::time::Duration;

use proto::v1::Stop;
use proto::v1::coordinator_message::Body as Order;

use super::state::State;
use super::{Activity, Command, Engine, MemberState, Outcome, Rank};

impl Engine {
    /// Goes on to what the agenda has next; first those leave who were told to, and those come in who wait for it.
    pub(super) fn advance(&mut self, now: Duration, out: &mut Vec<Command>) {
        if self.interrupted {
            return self.drain(now, out);
        }
        if self.paused {
            self.state = State::Paused;
            return;
        }
        if self.let_go(out) || self.has_newcomers() {
            self.stand_by();
            if self.members.live_count() >= self.spec.min_world {
                return self.begin_forming(now, out);
            }
            let why = "workers left as they were told to".to_owned();
            return self.gather(now, self.spec.restart_grace, Some(why), out);
        }
        let next = self.upcoming();
        self.start(now, next, out);
    }

    pub(super) fn start(&mut self, now: Duration, activity: Activity, out: &mut Vec<Command>) {
        self.activity = Some(activity);
        self.members.restart_progress(now);
        match activity {
            Activity::BeginStage { stage } => self.begin_stage(stage, out),
            Activity::Evaluate { stage, done, set, moment } => {
                self.begin_evaluation(stage, done, (set, moment), out);
            }
            Activity::Step { stage, number } => self.begin_step(stage, number, out),
            Activity::Checkpoint { stage, done, stage_end } => {
                self.begin_checkpoint(stage, done, stage_end, out);
            }
            Activity::Finish => self.finish(now, Outcome::Finished, out),
        }
    }

    /// Members that were told to end by somebody else, and may go now; whether there were any.
    fn let_go(&mut self, out: &mut Vec<Command>) -> bool {
        let leaving: Vec<Rank> = self
            .members
            .all()
            .iter()
            .filter(|(_, member)| matches!(member.state, MemberState::Leaving { .. }))
            .map(|(rank, _)| *rank)
            .collect();
        for rank in &leaving {
            self.send(*rank, Order::Stop(Stop { reason: "it was told to leave".into() }), out);
            if let Some(member) = self.members.live(*rank) {
                out.push(Command::Close { rank: *rank, incarnation: member.incarnation });
            }
            self.members.leave(*rank);
        }
        !leaving.is_empty()
    }

    /// Whether somebody stands by who could take part. Where weights are cut over ranks, a larger world begins at a
    /// checkpoint: there no step has to be done again.
    fn has_newcomers(&self) -> bool {
        let room = (self.world.len() as u32) < self.spec.max_world;
        let waiting = (0..self.spec.ranks())
            .any(|rank| !self.world.contains(&rank) && self.members.live(rank).is_some());
        let kept = self.checkpointed_step() == self.committed_step();
        let cut = self.at.is_some_and(|at| self.is_sharded(at.stage));
        room && waiting && (!cut || kept)
    }

    /// The world is no more.
    pub(super) fn stand_by(&mut self) {
        self.world.clear();
        self.members.stand_by();
    }

    pub(super) fn on_pause(&mut self, now: Duration, pause: bool, out: &mut Vec<Command>) {
        self.paused = pause;
        if !pause && matches!(self.state, State::Paused) {
            self.advance(now, out);
        }
    }

    /// A person wants the run to stop: what is not on disk yet goes there, then everybody leaves.
    pub(super) fn drain(&mut self, now: Duration, out: &mut Vec<Command>) {
        match self.at {
            Some(at) if self.committed_step() > self.checkpointed_step() => {
                let steps = self.spec.stages.get(at.stage).map_or(0, |stage| stage.steps);
                let stage_end = at.number >= steps;
                let activity = Activity::Checkpoint { stage: at.stage, done: at.number, stage_end };
                self.start(now, activity, out);
            }
            _ => self.finish(now, Outcome::Interrupted, out),
        }
    }
}
