//! Who is in the run, and two clocks a member: heartbeats say that its process lives, progress says that its
//! work advances.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::{Heartbeat, Join};

use super::Rank;

/// What a member is to the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It joined, and is in no world yet.
    Ready,
    /// It is in the active epoch's world.
    Active,
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
}

impl Member {
    /// It can be sent orders.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, MemberState::Ready | MemberState::Active)
    }
}

/// All members by rank: of every rank the newest incarnation.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_rank: BTreeMap<Rank, Member>,
    last_incarnation: u64,
}

impl Members {
    pub(crate) fn all(&self) -> &BTreeMap<Rank, Member> {
        &self.by_rank
    }

    /// Takes a worker in; returns its incarnation.
    pub(crate) fn admit(&mut self, now: Duration, rank: Rank, join: &Join) -> u64 {
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
        };
        self.by_rank.insert(rank, member);
        self.last_incarnation
    }

    /// The member at `rank`, if orders can reach it.
    pub(crate) fn live(&self, rank: Rank) -> Option<&Member> {
        self.by_rank.get(&rank).filter(|m| m.is_live())
    }

    /// How many can be reached.
    pub(crate) fn live_count(&self) -> u32 {
        self.by_rank.values().filter(|m| m.is_live()).count() as u32
    }

    /// The member at `rank`, if it is that incarnation and lives.
    pub(crate) fn same(&mut self, rank: Rank, incarnation: u64) -> Option<&mut Member> {
        self.by_rank.get_mut(&rank).filter(|m| m.incarnation == incarnation && m.is_live())
    }

    pub(crate) fn activate(&mut self, rank: Rank) {
        if let Some(member) = self.by_rank.get_mut(&rank) {
            member.state = MemberState::Active;
        }
    }

    pub(crate) fn bury(&mut self, now: Duration, rank: Rank, reason: String) {
        if let Some(member) = self.by_rank.get_mut(&rank).filter(|m| m.is_live()) {
            member.state = MemberState::Dead { since: now, reason };
        }
    }

    pub(crate) fn leave(&mut self, rank: Rank) {
        if let Some(member) = self.by_rank.get_mut(&rank) {
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
        }
    }

    /// New work begins for all: the progress clocks start over.
    pub(crate) fn restart_progress(&mut self, now: Duration) {
        for member in self.by_rank.values_mut() {
            member.advanced = now;
        }
    }

    /// The first live member that was silent for longer than `lease`.
    pub(crate) fn silent(&self, now: Duration, lease: Duration) -> Option<(Rank, Duration)> {
        let silence = |m: &Member| now.saturating_sub(m.heard);
        let found = self.by_rank.iter().find(|(_, m)| m.is_live() && silence(m) > lease);
        found.map(|(rank, m)| (*rank, silence(m)))
    }
}
