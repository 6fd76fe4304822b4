//! A worker is lost. The first sign is seldom the best one: a killed peer is first seen as a broken collective
//! on another rank. So signs are gathered for a moment, and the one closest to the cause is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::state::{State, StepPhase};
use super::{Command, Engine, Exit, MemberState, Rank};

/// SIGHUP, SIGINT, SIGTERM.
const TOLD_TO_END: [i32; 3] = [1, 2, 15];
/// A worker that left, one whose coordinator is gone, and ssh without its connection.
const WELL_OR_CUT_OFF: [i32; 3] = [0, 75, 255];
/// What a worker says that it does while it waits for nobody.
const ALONE: [&str; 2] = ["reading", "rolling out"];

/// Something that says that a rank is lost, or suffers from another's loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Its process ended.
    Exited { exit: Exit, last_lines: Vec<String> },
    /// It says that its work cannot go on.
    WorkFailed { reason: String, wrong_input: bool },
    /// No heartbeat for this long.
    Silent(Duration),
    /// It lives, but its work did not advance for this long; whether it waits for nobody.
    Stuck { idle: Duration, alone: bool },
    /// It did not connect to the others of its epoch within this long.
    Unconnected(Duration),
    /// Its stream ended.
    Disconnected(StreamEnd),
    /// It left without being asked.
    LeftUnasked,
    /// A collective of its failed: usually another's loss.
    CollectiveFailed(String),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// As the transport has it.
    pub(crate) reason: String,
    /// Its worker came back, or was told to end: it did not die of its work.
    pub(crate) lives: bool,
}

impl Sign {
    /// Closer to the cause is smaller.
    fn distance(&self) -> u8 {
        match self {
            Self::Exited { exit: Exit::Signal(_), .. } => 0,
            Self::WorkFailed { .. } => 1,
            Self::Exited { .. } => 2,
            Self::Silent(_) | Self::Stuck { .. } | Self::Unconnected(_) => 3,
            Self::Disconnected(_) => 4,
            Self::LeftUnasked => 5,
            Self::CollectiveFailed(_) => 6,
        }
    }

    /// Whether what it did may be the cause, and not a network or somebody who told it to end. Where nobody sees its
    /// exit, all that a death shows is the end of its stream.
    fn is_its_own(&self, sees_exits: bool) -> bool {
        match self {
            Self::Exited { exit: Exit::Signal(signal), .. } => !TOLD_TO_END.contains(signal),
            Self::Exited { exit: Exit::Code(code), .. } => !WELL_OR_CUT_OFF.contains(code),
            Self::WorkFailed { wrong_input, .. } => !wrong_input,
            Self::Stuck { alone, .. } => *alone,
            Self::Disconnected(end) => !sees_exits && !end.lives,
            _ => false,
        }
    }

    /// How long a better sign may take to come in after this one; a launcher that sees its workers' exits tells them.
    fn patience(&self, sees_exits: bool) -> Duration {
        Duration::from_millis(match self {
            Self::Silent(_) | Self::Stuck { .. } | Self::Unconnected(_) => 0,
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
    /// Who still owed a share of it, with its samples.
    owed: BTreeMap<Rank, Vec<String>>,
}

impl Evidence {
    /// The samples that ranks were lost over, as far as they may be the cause.
    pub(crate) fn struck(&self, sees_exits: bool) -> Vec<String> {
        let own = self.signs.iter().filter(|(_, sign)| sign.is_its_own(sees_exits)).map(|(rank, _)| *rank);
        let shares = own.collect::<BTreeSet<Rank>>().into_iter().filter_map(|rank| self.owed.get(&rank));
        shares.flatten().cloned().collect()
    }

    /// The ranks that strike, if all of them do so by the end of their streams alone; else nobody.
    pub(crate) fn only_by_stream(&self, sees_exits: bool) -> BTreeSet<Rank> {
        let own = self.signs.iter().filter(|(_, sign)| sign.is_its_own(sees_exits));
        let by_stream = |(rank, sign): &(Rank, Sign)| matches!(sign, Sign::Disconnected(_)).then_some(*rank);
        own.map(by_stream).collect::<Option<_>>().unwrap_or_default()
    }

    /// A worker came back: what ended was its stream, and not it.
    pub(crate) fn lives(&mut self, back: Rank) {
        for (rank, sign) in &mut self.signs {
            if let Sign::Disconnected(end) = sign
                && *rank == back
            {
                end.lives = true;
            }
        }
    }

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
            return self.lose_outside(now, rank, &sign, out);
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
        let (step, owed) = match &self.state {
            State::Stepping(stepping) if !matches!(stepping.phase, StepPhase::Commit { .. }) => {
                (Some((stepping.step, stepping.attempt)), stepping.owed())
            }
            _ => (None, BTreeMap::new()),
        };
        Evidence { during: self.during(), deadline, signs: vec![(rank, sign)], step, owed }
    }

    /// A member is no more; if it lives all the same, the end of its stream tells it.
    fn lose(&mut self, now: Duration, rank: Rank, reason: String, out: &mut Vec<Command>) {
        if let Some(member) = self.members.live(rank) {
            out.push(Command::Close { rank, incarnation: member.incarnation });
        }
        self.members.bury(now, rank, reason);
    }

    /// [`Self::lose`] of one that is in no world: nothing depends on it, and where a world is waited for another process
    /// is to take its place.
    pub(super) fn lose_outside(&mut self, now: Duration, rank: Rank, sign: &Sign, out: &mut Vec<Command>) {
        self.lose(now, rank, phrase(sign), out);
        if matches!(self.state, State::Waiting { .. }) {
            self.start_anew(rank, out);
        }
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
        if replaced {
            return;
        }
        if buried && !matches!(self.state, State::Failing(_)) {
            let died = known.is_some_and(|m| matches!(m.state, MemberState::Dead { .. }));
            if died && matches!(self.state, State::Waiting { .. }) {
                self.start_anew(rank, out);
            }
            return;
        }
        if matches!(self.state, State::Finishing { .. }) {
            if self.members.live(rank).is_some() {
                self.members.leave(rank);
                self.end_if_empty(out);
            }
            return;
        }
        self.starting.remove(&rank);
        self.suspect(now, rank, Sign::Exited { exit, last_lines }, out);
    }

    /// Both clocks of every member.
    pub(super) fn check_clocks(&mut self, now: Duration, out: &mut Vec<Command>) {
        for (rank, silence) in self.members.silent(now, self.spec.lease) {
            if self.world.is_empty() {
                // Its rank is free again for whoever is waited for.
                self.lose_outside(now, rank, &Sign::Silent(silence), out);
            } else {
                self.suspect(now, rank, Sign::Silent(silence), out);
            }
        }
        if matches!(self.state, State::Failing(_)) {
            return;
        }
        let stuck = self.owing().into_iter().filter_map(|rank| {
            let member = self.members.live(rank)?;
            let idle = now.saturating_sub(member.advanced);
            let alone = ALONE.contains(&member.phase.as_str());
            (idle > self.spec.progress).then_some((rank, idle, alone))
        });
        // Who waits for others does so because of one who does not.
        if let Some((rank, idle, alone)) = stuck.min_by_key(|(rank, _, alone)| (!alone, *rank)) {
            self.suspect(now, rank, Sign::Stuck { idle, alone }, out);
        }
    }

    /// Where nothing is known but that collectives failed: who owed his share, said nothing of it, and stands still.
    /// The others' waits ended before his did.
    fn standing_still(&self, now: Duration, evidence: &Evidence) -> Option<(Rank, Duration)> {
        if !evidence.signs.iter().all(|(_, sign)| matches!(sign, Sign::CollectiveFailed(_))) {
            return None;
        }
        let told = |rank: &Rank| evidence.signs.iter().any(|(who, _)| who == rank);
        let idle = evidence.owed.keys().filter(|rank| !told(rank)).filter_map(|rank| {
            let idle = now.saturating_sub(self.members.live(*rank)?.advanced);
            (idle > self.spec.progress).then_some((*rank, idle))
        });
        idle.max_by_key(|(_, idle)| *idle)
    }

    /// Says what happened once there is nothing more to wait for.
    pub(super) fn conclude_if_due(&mut self, now: Duration, out: &mut Vec<Command>) {
        let State::Failing(evidence) = &self.state else { return };
        if now < evidence.deadline {
            return;
        }
        if let Some((rank, idle)) = self.standing_still(now, evidence) {
            return self.suspect(now, rank, Sign::Stuck { idle, alone: false }, out);
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
            (Sign::WorkFailed { reason, wrong_input: named }, _)
                if wrong_input || *named || !evidence.owed.contains_key(rank) =>
            {
                let reason = format!("rank {rank} on {host} cannot go on ({during}): {reason}");
                return self.fail(now, reason, if wrong_input || *named { 2 } else { 1 }, out);
            }
            _ => {}
        }
        let log = exited.map(|(_, lines)| log_end(&lines)).unwrap_or_default();
        let reason = match sign {
            // A host that is up again before anybody misses it resets the connections of its life before.
            Sign::CollectiveFailed(reason) => format!(
                "a collective failed on rank {rank} on {host} during {during}, and nobody is known to be lost: {reason}"
            ),
            _ => format!("rank {rank} on {host} was lost during {during}: it {}{log}", phrase(sign)),
        };
        if wrong_input {
            return self.fail(now, reason, 2, out);
        }
        let idle = State::Waiting { deadline: now, lost: None };
        if let State::Failing(evidence) = std::mem::replace(&mut self.state, idle) {
            // Of work that failed another process is to have a try.
            for (rank, sign) in &evidence.signs {
                if matches!(sign, Sign::WorkFailed { .. }) {
                    self.lose(now, *rank, phrase(sign), out);
                }
            }
            self.recover(now, &evidence, reason, out);
        }
    }
}

fn phrase(sign: &Sign) -> String {
    match sign {
        Sign::Exited { exit, .. } => format!("ended with {exit}"),
        Sign::WorkFailed { reason, .. } => format!("cannot go on: {reason}"),
        Sign::Silent(time) => format!("was silent for {} s (recovery.lease)", time.as_secs()),
        Sign::Stuck { idle: time, .. } => {
            format!("made no progress for {} s (recovery.progress)", time.as_secs())
        }
        Sign::Unconnected(time) => format!(
            "did not connect to the other workers within {} s (recovery.forming): is the address that the host file \
             gives it reachable from the other hosts?",
            time.as_secs()
        ),
        Sign::Disconnected(StreamEnd { reason, .. }) => format!("closed its stream ({reason})"),
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
