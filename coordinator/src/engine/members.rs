//! Who is in the run, and two clocks a member: heartbeats say that its process lives, progress says that its
//! work advances.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::{Heartbeat, Held, Join};

use super::Rank;

/// What a member is to the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It joined, and is in no world yet.
    Ready,
    /// It is in the active epoch's world.
    Active,
    /// It was not heard for half a lease; it takes part until the lease is over.
    Suspect {
        /// When it was last heard.
        since: Duration,
    },
    /// It was told to end by somebody else, and goes at the next moment that fits.
    Leaving {
        /// When it will be gone.
        deadline: Duration,
    },
    /// It is gone without leave.
    Dead {
        /// Since when.
        since: Duration,
        /// How it is known.
        reason: String,
    },
    /// It left as asked.
    Left,
}

/// A worker that joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique within the run; a process that joins again gets another.
    pub incarnation: u64,
    /// The host as the worker names it.
    pub host: String,
    /// Process id on its host.
    pub process: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// What it is to the run.
    pub state: MemberState,
    /// What it says it is doing.
    pub phase: String,
    /// When it was last heard.
    pub heard: Duration,
    /// Its progress counter.
    pub progress: u64,
    /// When the counter last grew, or when it was last given work.
    pub advanced: Duration,
    /// What it says that it holds; `None`: nothing of this run.
    pub held: Option<Held>,
}

impl Member {
    /// It can be sent orders.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.state, MemberState::Dead { .. } | MemberState::Left)
    }
}

/// All members by rank: of every rank the newest incarnation.
#[derive(Debug)]
pub(crate) struct Members {
    by_rank: BTreeMap<Rank, Member>,
    /// How many of them can be reached, and how many left: looked at for every worker that joins.
    live: u32,
    left: u32,
    /// Counted over the run: the term is its upper half, so that no two coordinators give the same.
    last_incarnation: u64,
}

impl Members {
    /// Nobody yet; incarnations are those of `term`.
    pub(crate) fn of_term(term: u64) -> Self {
        Self { by_rank: BTreeMap::new(), live: 0, left: 0, last_incarnation: term << 32 }
    }

    pub(crate) fn all(&self) -> &BTreeMap<Rank, Member> {
        &self.by_rank
    }

    /// Takes a worker in; returns its incarnation.
    pub(crate) fn admit(&mut self, now: Duration, rank: Rank, join: &Join, held: Option<Held>) -> u64 {
        self.last_incarnation += 1;
        let member = Member {
            incarnation: self.last_incarnation,
            host: join.host.clone(),
            process: join.process,
            device: join.device.clone(),
            state: MemberState::Ready,
            phase: "joined".into(),
            heard: now,
            progress: 0,
            advanced: now,
            held,
        };
        self.live += 1;
        if let Some(before) = self.by_rank.insert(rank, member) {
            self.live -= u32::from(before.is_live());
            self.left -= u32::from(before.state == MemberState::Left);
        }
        self.last_incarnation
    }

    /// The member at `rank`, if orders can reach it.
    pub(crate) fn live(&self, rank: Rank) -> Option<&Member> {
        self.by_rank.get(&rank).filter(|m| m.is_live())
    }

    /// How many can be reached.
    pub(crate) fn live_count(&self) -> u32 {
        self.live
    }

    /// How many went as they were told to, so that nobody waits for them.
    pub(crate) fn left_count(&self) -> u32 {
        self.left
    }

    /// The member at `rank`, if it is that incarnation and lives.
    pub(crate) fn same(&mut self, rank: Rank, incarnation: u64) -> Option<&mut Member> {
        self.by_rank.get_mut(&rank).filter(|m| m.incarnation == incarnation && m.is_live())
    }

    pub(crate) fn activate(&mut self, rank: Rank) {
        if let Some(member) = self.by_rank.get_mut(&rank)
            && member.state == MemberState::Ready
        {
            member.state = MemberState::Active;
        }
    }

    /// The member was heard.
    pub(crate) fn hear(&mut self, now: Duration, rank: Rank, active: bool) {
        if let Some(member) = self.by_rank.get_mut(&rank) {
            member.heard = now;
            if let MemberState::Suspect { .. } = member.state {
                member.state = if active { MemberState::Active } else { MemberState::Ready };
            }
        }
    }

    /// Who was not heard for longer than `time` is suspect.
    pub(crate) fn suspect(&mut self, now: Duration, time: Duration) {
        for member in self.by_rank.values_mut() {
            let open = matches!(member.state, MemberState::Ready | MemberState::Active);
            if open && now.saturating_sub(member.heard) > time {
                member.state = MemberState::Suspect { since: member.heard };
            }
        }
    }

    pub(crate) fn leaving(&mut self, rank: Rank, deadline: Duration) {
        if let Some(member) = self.by_rank.get_mut(&rank).filter(|m| m.is_live()) {
            member.state = MemberState::Leaving { deadline };
        }
    }

    /// The world is no more: whoever was in it is ready for the next.
    pub(crate) fn stand_by(&mut self) {
        for member in self.by_rank.values_mut() {
            if matches!(member.state, MemberState::Active | MemberState::Suspect { .. }) {
                member.state = MemberState::Ready;
            }
        }
    }

    /// What a member holds has changed.
    pub(crate) fn holds(&mut self, rank: Rank, held: Option<Held>) {
        if let Some(member) = self.by_rank.get_mut(&rank) {
            member.held = held;
        }
    }

    pub(crate) fn bury(&mut self, now: Duration, rank: Rank, reason: String) {
        if let Some(member) = self.by_rank.get_mut(&rank).filter(|m| m.is_live()) {
            member.state = MemberState::Dead { since: now, reason };
            self.live -= 1;
        }
    }

    pub(crate) fn leave(&mut self, rank: Rank) {
        if let Some(member) = self.by_rank.get_mut(&rank) {
            self.live -= u32::from(member.is_live());
            self.left += u32::from(member.state != MemberState::Left);
            member.state = MemberState::Left;
        }
    }

    pub(crate) fn heartbeat(&mut self, now: Duration, rank: Rank, heartbeat: Heartbeat) {
        if let Some(member) = self.by_rank.get_mut(&rank) {
            member.phase = heartbeat.phase;
            if heartbeat.progress > member.progress {
                member.progress = heartbeat.progress;
                member.advanced = now;
            }
        }
    }

    /// Nobody was silent: the listener did not listen.
    pub(crate) fn forgive(&mut self, now: Duration) {
        for member in self.by_rank.values_mut() {
            member.heard = now;
            member.advanced = now;
        }
    }

    /// New work begins for all: the progress clocks start over.
    pub(crate) fn restart_progress(&mut self, now: Duration) {
        for member in self.by_rank.values_mut() {
            member.advanced = now;
        }
    }

    /// The live members that were silent for longer than `lease`, and for how long.
    pub(crate) fn silent(&self, now: Duration, lease: Duration) -> Vec<(Rank, Duration)> {
        let silence = |m: &Member| now.saturating_sub(m.heard);
        let silent = self.by_rank.iter().filter(|(_, m)| m.is_live() && silence(m) > lease);
        silent.map(|(rank, m)| (*rank, silence(m))).collect()
    }
}
