//! A worker is lost. The first sign is seldom the best one: a killed peer is first seen as a broken collective
//! on another rank. So signs are gathered for a moment, and the one closest to the cause is told.

use std::time::Duration;

use super::state::State;
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
            Self::Silent(_) | Self::Stuck(_) => 3,
            Self::Disconnected(_) => 4,
            Self::LeftUnasked => 5,
            Self::CollectiveFailed(_) => 6,
        }
    }

    /// How long a better sign may take to come in after this one.
    fn patience(&self) -> Duration {
        Duration::from_millis(match self {
            Self::Silent(_) | Self::Stuck(_) => 0,
            Self::Exited { .. } => 300,
            Self::WorkFailed { .. } => 1_000,
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
}

impl Evidence {
    /// The first sign, as a phrase.
    pub(crate) fn first(&self) -> String {
        self.signs.first().map_or_else(String::new, |(rank, sign)| format!("rank {rank} {}", phrase(sign)))
    }
}

impl Engine {
    /// Takes a sign in; the first one stops the run.
    pub(super) fn suspect(&mut self, now: Duration, rank: Rank, sign: Sign, out: &mut Vec<Command>) {
        if let Sign::Exited { .. } | Sign::Disconnected(_) | Sign::LeftUnasked = sign {
            self.members.bury(now, rank, phrase(&sign));
        }
        let deadline = now + sign.patience();
        match &mut self.state {
            State::Finishing { .. } | State::Ended(_) => return,
            State::Failing(evidence) => {
                evidence.deadline = evidence.deadline.min(deadline);
                evidence.signs.push((rank, sign));
            }
            _ => {
                let during = self.during();
                self.state = State::Failing(Evidence { during, deadline, signs: vec![(rank, sign)] });
            }
        }
        self.conclude_if_due(now, out);
    }

    pub(super) fn on_exited(
        &mut self,
        now: Duration,
        rank: Rank,
        exit: Exit,
        last_lines: Vec<String>,
        out: &mut Vec<Command>,
    ) {
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
        if let Some((rank, silence)) = self.members.silent(now, self.spec.lease) {
            return self.suspect(now, rank, Sign::Silent(silence), out);
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
        let (reason, exit_code) = match (sign, self.refusals.get(rank)) {
            (Sign::Exited { .. }, Some(refused)) => {
                (format!("rank {rank} on {host} was refused: {refused}"), 2)
            }
            (Sign::WorkFailed { reason, wrong_input: named }, _) => {
                let reason = format!("rank {rank} on {host} cannot go on ({during}): {reason}");
                (reason, if wrong_input || *named { 2 } else { 1 })
            }
            (sign, _) => {
                let log = exited.map(|(_, lines)| log_end(&lines)).unwrap_or_default();
                let what = phrase(sign);
                let reason = format!("rank {rank} on {host} was lost during {during}: it {what}{log}");
                (reason, if wrong_input { 2 } else { 1 })
            }
        };
        self.fail(now, reason, exit_code, out);
    }
}

fn phrase(sign: &Sign) -> String {
    match sign {
        Sign::Exited { exit, .. } => format!("ended with {exit}"),
        Sign::WorkFailed { reason, .. } => format!("cannot go on: {reason}"),
        Sign::Silent(time) => format!("was silent for {} s (recovery.lease)", time.as_secs()),
        Sign::Stuck(time) => format!("made no progress for {} s (recovery.progress)", time.as_secs()),
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
