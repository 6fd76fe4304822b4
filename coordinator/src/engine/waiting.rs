//! Taking workers in until enough are there.

use std::time::Duration;

use proto::v1::Join;

use super::failing::StreamEnd;
use super::state::State;
use super::{Command, Defect, Engine, MemberState, Outcome, Rank};

impl Engine {
    /// Waits for every rank, at most `time`; whoever is there then goes on, if they are enough.
    pub(super) fn gather(
        &mut self,
        now: Duration,
        time: Duration,
        lost: Option<String>,
        out: &mut Vec<Command>,
    ) {
        self.state = State::Waiting { deadline: now + time, lost };
        self.form_if_complete(now, out);
    }

    fn form_if_complete(&mut self, now: Duration, out: &mut Vec<Command>) {
        let expected = self.spec.ranks().saturating_sub(self.members.left_count());
        let enough = expected.min(self.spec.max_world).max(self.spec.min_world);
        if matches!(self.state, State::Waiting { .. }) && self.members.live_count() >= enough {
            self.begin_forming(now, out);
        }
    }

    pub(super) fn on_joining(
        &mut self,
        now: Duration,
        stream: u64,
        rank: Rank,
        join: &Join,
        out: &mut Vec<Command>,
    ) {
        let ours = join.run_id == self.spec.run_id;
        if let Some(member) = self
            .members
            .live(rank)
            .filter(|m| ours && (m.process, m.host.as_str()) == (join.process, join.host.as_str()))
        {
            // Its stream broke on its side first.
            let incarnation = member.incarnation;
            out.push(Command::Close { rank, incarnation });
            let ended = StreamEnd { reason: "it came back by another stream".into(), lives: true };
            self.on_stream_end(now, rank, incarnation, ended, out);
            self.members.bury(now, rank, "it came back by another stream".into());
        }
        if let Err((reason, again)) = self.admissible(rank, join) {
            // Of a rank that is there it says nothing.
            if rank < self.spec.ranks() && !again && self.members.live(rank).is_none() {
                self.refusals.insert(rank, reason.clone());
            }
            out.push(Command::Refuse { stream, reason, again });
            return;
        }
        if ours {
            self.take_back(rank, join, out);
        }
        self.refusals.remove(&rank);
        self.starting.remove(&rank);
        let incarnation = self.members.admit(now, rank, join, join.held.filter(|_| ours));
        out.push(Command::Admit { stream, rank, incarnation });
        self.recommit(rank, out);
        self.form_if_complete(now, out);
    }

    /// Whether a worker may take `rank`; or why not, and whether that may pass by itself.
    fn admissible(&self, rank: Rank, join: &Join) -> Result<(), (String, bool)> {
        let ranks = self.spec.ranks();
        let never = |reason| Err((reason, false));
        if join.version != self.spec.version {
            return never(format!(
                "worker version {:?} differs from the coordinator's {:?}: build both from the same source",
                join.version, self.spec.version
            ));
        }
        if rank >= ranks {
            return never(format!(
                "rank {rank} is out of range: the host file lists {ranks} workers, ranks 0 to {}",
                ranks.saturating_sub(1)
            ));
        }
        if let Some(member) = self.members.live(rank) {
            let reason = format!(
                "rank {rank} is taken by process {} on {} (incarnation {}): start every rank once",
                member.process, member.host, member.incarnation
            );
            // It may be gone already, with its host.
            return Err((reason, true));
        }
        if self.state.is_over() {
            return never(format!("the run is over ({}): a worker cannot join it any more", self.during()));
        }
        Ok(())
    }

    /// The time to wait is over.
    pub(super) fn waited_enough(&mut self, now: Duration, out: &mut Vec<Command>) {
        if self.broken(Defect::WaitForever) {
            return;
        }
        if self.interrupted {
            return self.finish(now, Outcome::Interrupted, out);
        }
        // Whoever did not come by now is not on his way.
        self.starting.clear();
        if self.members.live_count() >= self.spec.min_world {
            return self.begin_forming(now, out);
        }
        let State::Waiting { lost, .. } = &self.state else { return };
        let missing: Vec<String> = (0..self.spec.ranks())
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
        let (time, key, before) = match lost {
            None => (self.spec.forming, "recovery.forming", String::new()),
            Some(lost) => (self.spec.restart_grace, "recovery.restart_grace", format!("{lost}. ")),
        };
        let reason = format!(
            "{before}{} of {} workers joined within {} s, {} are needed; missing: {}. Look at their logs, raise \
             {key}, or lower recovery.min_world",
            self.members.live_count(),
            self.spec.ranks(),
            time.as_secs(),
            self.spec.min_world,
            missing.join(", ")
        );
        self.fail(now, reason, 75, out);
    }
}
