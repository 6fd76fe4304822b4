//! What comes next: the agenda, unless a person or the membership has something before it.

use std::time::Duration;

use proto::v1::Stop;
use proto::v1::coordinator_message::Body as Order;

use super::checkpointing::Publication;
use super::state::{Checkpointing, State};
use super::{Activity, Command, Engine, Member, MemberState, Outcome, Rank};

impl Engine {
    /// Goes on to what the agenda has next; first those leave who were told to, and those come in who wait for it.
    pub(super) fn advance(&mut self, now: Duration, out: &mut Vec<Command>) {
        if self.interrupted {
            return self.drain(now, out);
        }
        if self.takes_state_along() {
            return self.save(now, out);
        }
        let gone = self.let_go(out);
        if self.paused && !gone {
            self.state = State::Paused;
            return;
        }
        if gone || self.has_newcomers() {
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
                self.begin_checkpoint(now, stage, done, stage_end, out);
            }
            Activity::Finish => self.finish(now, Outcome::Finished, out),
        }
    }

    /// Members that were told to end by somebody else.
    fn leaving(&self) -> Vec<Rank> {
        let leaving = |member: &Member| matches!(member.state, MemberState::Leaving { .. });
        self.members.all().iter().filter(|(_, member)| leaving(member)).map(|(rank, _)| *rank).collect()
    }

    /// Whether those who are to leave are needed for what is not on disk yet: it is cut over all, or too few stay.
    fn takes_state_along(&self) -> bool {
        let leaving = self.leaving().len() as u32;
        let few = self.members.live_count().saturating_sub(leaving) < self.spec.min_world;
        leaving > 0 && self.has_unsaved() && (few || self.at.is_some_and(|at| self.is_sharded(at.stage)))
    }

    /// Lets those go who may now; whether there were any.
    fn let_go(&mut self, out: &mut Vec<Command>) -> bool {
        let leaving = self.leaving();
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
        if self.has_unsaved() { self.save(now, out) } else { self.finish(now, Outcome::Interrupted, out) }
    }

    /// [`Self::drain`] while no world stands: those that hold what is not on disk yet form one for it, if they can.
    pub(super) fn drain_without_world(&mut self, now: Duration, out: &mut Vec<Command>) {
        let at = self.at.map(|at| (at.stage, at.number, at.step));
        let is_newest = |under_way: &&Publication| {
            let about = &under_way.about;
            under_way.stands && at == Some((about.stage, about.number, about.step))
        };
        if let Some(Publication { about, .. }) = self.publishing.values().find(is_newest) {
            let phase = Checkpointing::Publishing;
            self.state = State::Checkpointing { about: about.clone(), phase };
            return;
        }
        let holds = |rank: &Rank| self.members.live(*rank).is_some_and(|member| member.held.is_some());
        let cut = self.at.is_some_and(|at| self.is_sharded(at.stage));
        let held = if cut {
            !self.cut.is_empty() && self.cut.iter().all(|(rank, _)| holds(rank))
        } else {
            (0..self.spec.ranks()).any(|rank| holds(&rank))
        };
        match (self.has_unsaved(), held) {
            (true, true) => self.begin_forming(now, out),
            // What the lost owned lies with their neighbours.
            (true, false) if cut && self.spec.redundant => {
                self.start_lost(out);
                // Who waits already waits on: a loss leaves a deadline that is over.
                if !matches!(self.state, State::Waiting { deadline, .. } if deadline > now) {
                    self.gather(now, self.spec.restart_grace, None, out);
                }
            }
            _ => self.finish(now, Outcome::Interrupted, out),
        }
    }

    /// Whether something is committed that no checkpoint holds.
    pub(super) fn has_unsaved(&self) -> bool {
        self.at.is_some() && self.committed_step() > self.checkpointed_step()
    }

    /// Writes a checkpoint, whether it is its turn or not.
    fn save(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Some(at) = self.at else { return };
        let steps = self.spec.stages.get(at.stage).map_or(0, |stage| stage.steps);
        let activity =
            Activity::Checkpoint { stage: at.stage, done: at.number, stage_end: at.number >= steps };
        self.start(now, activity, out);
    }
}
