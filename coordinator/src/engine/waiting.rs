//! Taking workers in until every rank is there.

use std::time::Duration;

use proto::v1::Join;

use super::state::State;
use super::{Command, Engine, MemberState, Rank};

impl Engine {
    pub(super) fn on_joining(
        &mut self,
        now: Duration,
        stream: u64,
        rank: Rank,
        join: &Join,
        out: &mut Vec<Command>,
    ) {
        if let Err(reason) = self.admissible(rank, join) {
            if rank < self.spec.world_size() {
                self.refusals.insert(rank, reason.clone());
            }
            out.push(Command::Refuse { stream, reason });
            return;
        }
        self.refusals.remove(&rank);
        let incarnation = self.members.admit(now, rank, join);
        out.push(Command::Admit { stream, rank, incarnation });
        if self.members.live_count() == self.spec.world_size() {
            self.begin_forming(now, out);
        }
    }

    /// Whether a worker may take `rank`, or why not.
    fn admissible(&self, rank: Rank, join: &Join) -> Result<(), String> {
        let world = self.spec.world_size();
        if join.version != self.spec.version {
            return Err(format!(
                "worker version {:?} differs from the coordinator's {:?}: build both from the same source",
                join.version, self.spec.version
            ));
        }
        if rank >= world {
            return Err(format!(
                "rank {rank} is out of range: the host file lists {world} workers, ranks 0 to {}",
                world.saturating_sub(1)
            ));
        }
        if let Some(member) = self.members.live(rank) {
            return Err(format!(
                "rank {rank} is taken by process {} on {} (incarnation {}): start every rank once",
                member.process, member.host, member.incarnation
            ));
        }
        match &self.state {
            State::Waiting { .. } => Ok(()),
            _ => Err(format!(
                "the run is past its start ({}): a worker cannot join it any more",
                self.during()
            )),
        }
    }

    /// Gives up when the time to form is over.
    pub(super) fn check_waiting(&mut self, now: Duration, deadline: Duration, out: &mut Vec<Command>) {
        if now < deadline {
            return;
        }
        let world = self.spec.world_size();
        let missing: Vec<String> = (0..world)
            .filter(|rank| self.members.live(*rank).is_none())
            .map(|rank| {
                let refused = self.refusals.get(&rank).map(|r| format!(", refused: {r}")).unwrap_or_default();
                let gone = match self.members.all().get(&rank).map(|m| &m.state) {
                    Some(MemberState::Dead { reason, .. }) => format!(", gone: {reason}"),
                    _ => String::new(),
                };
                format!("rank {rank} (host {}{refused}{gone})", self.spec.host(rank))
            })
            .collect();
        let reason = format!(
            "{} of {world} workers joined within {} s; missing: {}. Look at their logs, or raise recovery.forming",
            self.members.live_count(),
            self.spec.forming.as_secs(),
            missing.join(", ")
        );
        self.fail(now, reason, 75, out);
    }
}
