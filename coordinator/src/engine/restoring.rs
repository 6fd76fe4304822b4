//! A new world: what its members hold is made equal before anybody is given work (RC-1).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::restore::Source as From;
use proto::v1::{Held, Mirrored, Restore, Restored};

use super::digests::{PartDigest, agreed};
use super::resume::At;
use super::state::{Restoring, State};
use super::{
    Activity, CheckpointName, Command, Defect, Engine, Outcome, Rank, Record, RestoredRecord, Source,
};

impl Engine {
    /// The groups are made: goes on if everybody holds the run's state, else has it restored.
    pub(super) fn restore(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Some(at) = self.at else { return self.go_on_equal(now, out) };
        let sharded = self.is_sharded(at.stage);
        let equal = self.world.iter().all(|rank| self.is_up_to_date(*rank, at));
        let same_cut = !sharded || self.cut == self.placed();
        if (equal && same_cut) || self.broken(Defect::UnequalGoOn) {
            return self.go_on_equal(now, out);
        }
        let mut source = self.world.iter().copied().find(|rank| self.is_source(*rank, at));
        if self.broken(Defect::AnySource) {
            let holding = self.world.iter().copied().filter(|rank| self.held(*rank).is_some());
            source = holding.min_by_key(|rank| self.held(*rank).map(|held| held.step));
        }
        let mirrored = match &self.state {
            State::Forming { mirrored, .. } => mirrored.clone(),
            _ => BTreeSet::new(),
        };
        let mirrors = if sharded && same_cut { self.mirrors(at, &mirrored) } else { None };
        match (source.filter(|_| !sharded), mirrors) {
            (Some(source), _) => self.heal(now, Source::Member(source), at, out),
            (None, Some(mirrors)) => self.heal(now, Source::Mirrors(mirrors), at, out),
            // All that could still go to disk is there.
            (None, None) if self.interrupted => self.finish(now, Outcome::Interrupted, out),
            (None, None) => self.open_newest(now, out),
        }
    }

    fn held(&self, rank: Rank) -> Option<Held> {
        self.members.live(rank).and_then(|member| member.held)
    }

    /// Whether a member holds all that the next activity needs. A stage that is about to begin may have begun
    /// there: it takes the same weights.
    fn is_up_to_date(&self, rank: Rank, at: At) -> bool {
        let begins = match self.upcoming() {
            Activity::BeginStage { stage } => Some(stage),
            _ => None,
        };
        self.held(rank).is_some_and(|held| {
            let stage = held.stage as usize;
            (held.step, held.attempt) == (at.step, self.committed_by())
                && (stage == at.stage || Some(stage) == begins)
        })
    }

    pub(super) fn is_source(&self, rank: Rank, at: At) -> bool {
        let wanted = (at.stage, at.step, self.committed_by());
        self.held(rank).is_some_and(|held| (held.stage as usize, held.step, held.attempt) == wanted)
    }

    /// The attempt by which the newest step was committed: a worker that holds the step by another one took part in a
    /// future that is void.
    pub(super) fn committed_by(&self) -> u32 {
        self.committed.map_or(0, |committed| committed.attempt)
    }

    /// What a member holds that has applied all that is committed.
    pub(super) fn holding(&self, stage: u32) -> Held {
        Held { stage, step: self.committed_step(), prepared: None, attempt: self.committed_by() }
    }

    /// Ranks with their hosts, in group order: what a cut of the weights depends on.
    pub(super) fn placed(&self) -> Vec<(Rank, String)> {
        let host = |rank: &Rank| self.members.live(*rank).map_or_else(String::new, |m| m.host.clone());
        self.world.iter().map(|rank| (*rank, host(rank))).collect()
    }

    fn heal(&mut self, now: Duration, source: Source, at: At, out: &mut Vec<Command>) {
        let place = |of: &Rank| self.world.iter().position(|rank| rank == of).unwrap_or(0) as u32;
        let from = match &source {
            Source::Mirrors(mirrors) => {
                Some(From::Mirrored(Mirrored { lost: mirrors.keys().map(place).collect() }))
            }
            Source::Member(source) => Some(From::Member(place(source))),
            Source::Checkpoint(_) | Source::Start => None,
        };
        self.state = State::Restoring(Restoring::Healing { source, digests: BTreeMap::new(), sent: 0 });
        self.members.restart_progress(now);
        let attempt = self.committed_by();
        let order = Restore { stage: at.stage as u32, step: at.step, source: from, attempt };
        self.send_world(&Order::Restore(order), out);
    }

    /// Nobody holds the run's state whole: the newest checkpoint has it, or the run's start.
    fn open_newest(&mut self, now: Duration, out: &mut Vec<Command>) {
        if let Some(checkpoint) = self.checkpoints.last().cloned() {
            out.push(Command::OpenCheckpoint(checkpoint.name.clone()));
            self.state = State::Restoring(Restoring::Opening(checkpoint));
            return;
        }
        self.restored(0, Source::Start, 0, out);
        self.go_on_equal(now, out);
    }

    pub(super) fn on_checkpoint_opened(
        &mut self,
        now: Duration,
        name: &CheckpointName,
        folder: &Path,
        out: &mut Vec<Command>,
    ) {
        let State::Restoring(Restoring::Opening(checkpoint)) = &self.state else { return };
        if checkpoint.name != *name {
            return;
        }
        let checkpoint = checkpoint.clone();
        let order = Restore {
            stage: checkpoint.stage as u32,
            step: checkpoint.step,
            source: Some(From::Checkpoint(folder.display().to_string())),
            attempt: 0,
        };
        self.state = State::Restoring(Restoring::Loading { checkpoint, digests: BTreeMap::new(), sent: 0 });
        self.members.restart_progress(now);
        self.send_world(&Order::Restore(order), out);
    }

    /// A checkpoint was damaged since it was published: the one before it has to do.
    pub(super) fn on_checkpoint_broken(
        &mut self,
        now: Duration,
        name: &CheckpointName,
        out: &mut Vec<Command>,
    ) {
        let State::Restoring(Restoring::Opening(checkpoint)) = &self.state else { return };
        if checkpoint.name != *name {
            return;
        }
        self.checkpoints.retain(|known| known.name != *name);
        self.open_newest(now, out);
    }

    pub(super) fn on_restored(&mut self, now: Duration, rank: Rank, done: Restored, out: &mut Vec<Command>) {
        let committed_by = self.committed_by();
        let State::Restoring(restoring) = &mut self.state else { return };
        let is_healed = matches!(restoring, Restoring::Healing { .. });
        let (expected, digests, sent) = match restoring {
            Restoring::Opening(_) => return,
            Restoring::Loading { checkpoint, digests, sent } => {
                ((checkpoint.stage as u32, checkpoint.step), digests, sent)
            }
            Restoring::Healing { digests, sent, .. } => {
                let at = self.at.map_or((0, 0), |at| (at.stage as u32, at.step));
                (at, digests, sent)
            }
        };
        if (done.stage, done.step) != expected {
            return;
        }
        if let Entry::Vacant(place) = digests.entry(rank) {
            place.insert(PartDigest::new(done.part, done.digest));
            *sent += done.sent;
        }
        let sent = *sent;
        let attempt = if is_healed { committed_by } else { 0 };
        self.members.holds(rank, Some(Held { stage: done.stage, step: done.step, prepared: None, attempt }));
        if digests.len() < self.world.len() {
            return;
        }
        let (digests, source) = match restoring {
            Restoring::Opening(_) => return,
            Restoring::Loading { checkpoint, digests, .. } => {
                (std::mem::take(digests), Source::Checkpoint(checkpoint.name.clone()))
            }
            Restoring::Healing { source, digests, .. } => (std::mem::take(digests), source.clone()),
        };
        match agreed(&digests) {
            Ok(digest) => {
                self.restored(done.step, source, sent, out);
                self.weights_digest = digest;
                self.go_on_equal(now, out);
            }
            Err(who) => {
                let reason = format!("the workers' weights differ after they were restored: {who}");
                self.fail(now, reason, 1, out);
            }
        }
    }

    /// On disk before anybody goes on from it (ST-1).
    fn restored(&mut self, to: u64, source: Source, sent: u64, out: &mut Vec<Command>) {
        let record = Record::Restored(RestoredRecord { from: self.committed_step(), to, source, sent });
        self.journal(record, out);
        if self.broken(Defect::RestoreUnsaid) {
            out.pop();
        }
    }

    /// Everybody holds the same, and is given work.
    fn go_on_equal(&mut self, now: Duration, out: &mut Vec<Command>) {
        for rank in self.world.clone() {
            self.members.activate(rank);
        }
        self.advance(now, out);
    }
}
