//! A worker is lost and the run goes on: what is under way is dropped, and a new world gathers.

use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{AbortCollectives, Discard};

use super::failing::Evidence;
use super::{Command, DiscardRecord, Engine, Rank, Record};

impl Engine {
    /// Drops what is under way because of `reason`, and gathers the next world.
    pub(super) fn recover(
        &mut self,
        now: Duration,
        evidence: &Evidence,
        reason: String,
        out: &mut Vec<Command>,
    ) {
        if let Some((step, attempt)) = evidence.step {
            self.journal(Record::Discarded(DiscardRecord { step, attempt, reason: reason.clone() }), out);
        }
        let advances = self.strike(evidence, &reason, out);
        self.losses += u32::from(!advances);
        if self.losses > self.spec.max_discards {
            let reason = format!(
                "{reason}\nThat was loss {} since the furthest step was committed, recovery.max_discards is {}: a run \
                 that gets no further is stopped",
                self.losses, self.spec.max_discards
            );
            return self.fail(now, reason, 1, out);
        }
        self.abort_world(out);
        self.stand_by();
        if self.interrupted {
            return self.drain_without_world(now, out);
        }
        self.start_lost(out);
        self.gather(now, self.spec.restart_grace, Some(reason), out);
    }

    /// Has whoever is gone started again.
    pub(super) fn start_lost(&mut self, out: &mut Vec<Command>) {
        (0..self.spec.ranks()).for_each(|rank| self.start_anew(rank, out));
    }

    /// Has a rank that is gone started again, if a launcher can and it is not on its way already.
    pub(super) fn start_anew(&mut self, rank: Rank, out: &mut Vec<Command>) {
        if self.spec.respawns && self.members.live(rank).is_none() && self.starting.insert(rank) {
            out.push(Command::Restart { rank });
        }
    }

    /// Ends whatever waits in the epoch's group, and forgets a step that is not committed.
    pub(super) fn abort_world(&mut self, out: &mut Vec<Command>) {
        self.send_world(&Order::AbortCollectives(AbortCollectives {}), out);
        let step = self.committed_step() + 1;
        self.send_world(&Order::Discard(Discard { step }), out);
    }
}
