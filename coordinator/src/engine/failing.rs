//! A worker is lost. The first sign is seldom the best one: a killed peer is first seen as a broken collective
//! on another rank. So signs are gathered for a moment, and the one closest to the cause is told.

use std::time::Duration;

use super::state::{State, StepPhase};
use super::{Command, Engine, Exit, Rank};

/// Something that says that a rank is lost, or suffers from another's loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Its process ended.
    Exited { exit: Exit, last_lines: Vec<String> },
    /// It says that its work cannot go on.
    WorkFailed { reason: String, wrong_input: bool },
    /// No heartbeat for this long.
    Silent(Duration),
    /// It lives, but its work did not advance for this long.
    Stuck(Duration),
    /// It did not connect to the others of its epoch within this long.
    Unconnected(Duration),
    /// Its stream ended.
    Disconnected(String),
    /// It left without being asked.
    LeftUnasked,
    /// A collective of its failed: usually another's loss.
    CollectiveFailed(String),
}

impl Sign {
    /// Closer to the cause is smaller.
    fn distance(&self) -> u8 {
        match self {
            Self::Exited { exit: Exit::Signal(_), .. } => 0,
            Self::WorkFailed { .. } => 1,
            Self::Exited { .. } => 2,
            Self::Silent(_) | Self::Stuck(_) | Self::Unconnected(_) => 3,
            Self::Disconnected(_) => 4,
            Self::LeftUnasked => 5,
            Self::CollectiveFailed(_) => 6,
        }
    }

    /// How long a better sign may take to come in after this one; a launcher that sees its workers' exits tells them.
    fn patience(&self, sees_exits: bool) -> Duration {
        Duration::from_millis(match self {
            Self::Silent(_) | Self::Stuck(_) | Self::Unconnected(_) => 0,
            Self::Exited { exit: Exit::Signal(_), .. } => 50,
            Self::Exited { .. } => 300,
            Self::WorkFailed { .. } => 1_000,
            Self::Disconnected(_) if !sees_exits => 100,
            Self::Disconnected(_) | Self::LeftUnasked | Self::CollectiveFailed(_) => 2_000,
        })
    }
}

/// What is known of a loss.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What the world was doing.
    pub(crate) during: String,
    /// When to stop gathering.
    deadline: Duration,
    /// In the order that they came in.
    signs: Vec<(Rank, Sign)>,
    /// The try at a step that was under way, uncommitted.
    pub(crate) step: Option<(u64, u32)>,
}

impl Evidence {
    /// The first sign, as a phrase.
    pub(crate) fn first(&self) -> String {
        self.signs.first().map_or_else(String::new, |(rank, sign)| format!("rank {rank} {}", phrase(sign)))
    }
}

impl Engine {
    /// Takes a sign in; the first one of a member of the world stops what is under way.
    pub(super) fn suspect(&mut self, now: Duration, rank: Rank, sign: Sign, out: &mut Vec<Command>) {
        if !self.world.is_empty() && !self.world.contains(&rank) {
            // It stands by: nothing depends on it.
            return self.lose(now, rank, phrase(&sign), out);
        }
        if !matches!(sign, Sign::WorkFailed { .. } | Sign::CollectiveFailed(_)) {
            self.lose(now, rank, phrase(&sign), out);
        }
        let deadline = now + sign.patience(self.spec.respawns);
        match &mut self.state {
            State::Finishing { .. } | State::Ended(_) => return,
            State::Failing(evidence) => {
                evidence.deadline = evidence.deadline.min(deadline);
                evidence.signs.push((rank, sign));
            }
            _ => self.state = State::Failing(self.evidence(deadline, rank, sign)),
        }
        self.conclude_if_due(now, out);
    }

    fn evidence(&self, deadline: Duration, rank: Rank, sign: Sign) -> Evidence {
        let step = match &self.state {
            State::Stepping(stepping) if !matches!(stepping.phase, StepPhase::Commit { .. }) => {
                Some((stepping.step, stepping.attempt))
            }
            _ => None,
        };
        Evidence { during: self.during(), deadline, signs: vec![(rank, sign)], step }
    }

    /// A member is no more; if it lives all the same, the end of its stream tells it.
    fn lose(&mut self, now: Duration, rank: Rank, reason: String, out: &mut Vec<Command>) {
        if let Some(member) = self.members.live(rank) {
            out.push(Command::Close { rank, incarnation: member.incarnation });
        }
        self.members.bury(now, rank, reason);
    }

    pub(super) fn on_exited(
        &mut self,
        now: Duration,
        rank: Rank,
        process: u32,
        exit: Exit,
        last_lines: Vec<String>,
        out: &mut Vec<Command>,
    ) {
        let known = self.members.all().get(&rank);
        let replaced = known.is_some_and(|m| m.is_live() && m.process != process);
        let buried = known.is_some_and(|m| !m.is_live() && m.process == process);
        if replaced || (buried && !matches!(self.state, State::Failing(_))) {
            return;
        }
        if matches!(self.state, State::Finishing { .. }) {
            if self.members.live(rank).is_some() {
                self.members.leave(rank);
                self.end_if_empty(out);
            }
            return;
        }
        self.suspect(now, rank, Sign::Exited { exit, last_lines }, out);
    }

    /// Both clocks of every member.
    pub(super) fn check_clocks(&mut self, now: Duration, out: &mut Vec<Command>) {
        for (rank, silence) in self.members.silent(now, self.spec.lease) {
            if self.world.is_empty() {
                // Its rank is free again for whoever is waited for.
                self.lose(now, rank, phrase(&Sign::Silent(silence)), out);
            } else {
                self.suspect(now, rank, Sign::Silent(silence), out);
            }
        }
        if matches!(self.state, State::Failing(_)) {
            return;
        }
        let stuck = self.owing().into_iter().find_map(|rank| {
            let idle = now.saturating_sub(self.members.live(rank)?.advanced);
            (idle > self.spec.progress).then_some((rank, idle))
        });
        if let Some((rank, idle)) = stuck {
            self.suspect(now, rank, Sign::Stuck(idle), out);
        }
    }

    /// Says what happened once there is nothing more to wait for.
    pub(super) fn conclude_if_due(&mut self, now: Duration, out: &mut Vec<Command>) {
        let State::Failing(evidence) = &self.state else { return };
        if now < evidence.deadline {
            return;
        }
        let Some((rank, sign)) = evidence.signs.iter().min_by_key(|(_, sign)| sign.distance()) else {
            return;
        };
        let exited = evidence.signs.iter().find_map(|(r, s)| match s {
            Sign::Exited { exit, last_lines } if r == rank => Some((*exit, last_lines.clone())),
            _ => None,
        });
        let wrong_input = matches!(exited, Some((Exit::Code(2), _)));
        let host = self.spec.host(*rank);
        let during = &evidence.during;
        match (sign, self.refusals.get(rank)) {
            (Sign::Exited { .. }, Some(refused)) => {
                let reason = format!("rank {rank} on {host} was refused: {refused}");
                return self.fail(now, reason, 2, out);
            }
            (Sign::WorkFailed { reason, wrong_input: named }, _) => {
                let reason = format!("rank {rank} on {host} cannot go on ({during}): {reason}");
                return self.fail(now, reason, if wrong_input || *named { 2 } else { 1 }, out);
            }
            _ => {}
        }
        let log = exited.map(|(_, lines)| log_end(&lines)).unwrap_or_default();
        let reason = format!("rank {rank} on {host} was lost during {during}: it {}{log}", phrase(sign));
        if wrong_input {
            return self.fail(now, reason, 2, out);
        }
        let idle = State::Waiting { deadline: now, lost: None };
        if let State::Failing(evidence) = std::mem::replace(&mut self.state, idle) {
            self.recover(now, &evidence, reason, out);
        }
    }
}

fn phrase(sign: &Sign) -> String {
    match sign {
        Sign::Exited { exit, .. } => format!("ended with {exit}"),
        Sign::WorkFailed { reason, .. } => format!("cannot go on: {reason}"),
        Sign::Silent(time) => format!("was silent for {} s (recovery.lease)", time.as_secs()),
        Sign::Stuck(time) => format!("made no progress for {} s (recovery.progress)", time.as_secs()),
        Sign::Unconnected(time) => format!(
            "did not connect to the other workers within {} s (recovery.forming): is the address that the host file \
             gives it reachable from the other hosts?",
            time.as_secs()
        ),
        Sign::Disconnected(reason) => format!("closed its stream ({reason})"),
        Sign::LeftUnasked => "left without being asked".into(),
        Sign::CollectiveFailed(reason) => format!("reports a failed collective ({reason})"),
    }
}

fn log_end(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("; its log ends:\n{}", lines.iter().map(|l| format!("  | {l}")).collect::<Vec<_>>().join("\n"))
}
