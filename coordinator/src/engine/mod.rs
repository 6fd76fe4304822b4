//! Decides what the run does next: events in, commands out. No clock, no randomness, no I/O.
//!
//! ```text
//! Waiting → Forming → Staging → Stepping{Planning → Rollout → Scoring → Update → Commit} ⟲ → Finishing → Ended
//!                                 ↑↓ Evaluating, Checkpointing
//! any state ── a worker is lost ──→ Failing (evidence is gathered) → Finishing → Ended(Failed{reason})
//! ```
//!
//! Commands are carried out in order; a failed one stops those after it. So whatever follows a
//! [`Command::Journal`] in the list leaves only once the record is on disk.
//!
//! Invariants, which the tests name:
//! - **EP-1** one active epoch a run: an epoch begins only when no other is active.
//! - **EP-2** a commit names only members of its epoch, and all of them had their part prepared.
//! - **ST-1** `committed_step` never falls, and grows by one a commit.
//! - **ST-2** a step's samples are committed once.

mod agenda;
mod checkpointing;
mod command;
mod commit;
mod digests;
mod evaluating;
mod event;
mod failing;
mod finishing;
mod forming;
mod members;
mod messages;
mod record;
mod spec;
mod staging;
mod state;
mod stepping;
mod verdict;
mod waiting;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use agenda::{Activity, EvaluationSet, Moment, StageSpec};
pub use checkpointing::CheckpointName;
pub use command::{Command, Outcome};
pub use event::{Event, Exit, Sender};
pub use members::{Member, MemberState};
pub use record::{CheckpointRecord, EpochRecord, EvaluationRecord, Record, StageRecord, StepRecord};
pub use spec::{CarriedState, Spec};
pub use verdict::Verdict;
pub use work::{Plan, RolloutWork, UpdateWork};

use members::Members;
use proto::v1::coordinator_message::Body as Order;
use state::{Checkpointing, Evaluating, State, StepPhase};

/// A worker's place in the run, 0 to world size − 1.
pub type Rank = u32;

/// The run's state machine.
#[derive(Debug)]
pub struct Engine {
    spec: Spec,
    state: State,
    members: Members,
    /// 0 before the first world forms.
    epoch: u64,
    /// The ranks of the active epoch.
    world: BTreeSet<Rank>,
    /// What the run is at; `None` before the world has formed.
    activity: Option<Activity>,
    committed_step: u64,
    /// Of all weights, as every replica reports them; empty before the first stage.
    weights_digest: String,
    consecutive_skips: u32,
    /// The step that the newest checkpoint holds.
    checkpointed_step: u64,
    /// Periodic checkpoints on disk, oldest first.
    kept: Vec<CheckpointName>,
    /// Why ranks were last turned away, for the message when their process then ends.
    refusals: BTreeMap<Rank, String>,
    /// A person asked to stop: what is under way is finished or dropped, and the run ends well.
    interrupted: bool,
    /// When the last [`Event::Tick`] came.
    ticked: Duration,
    last_verdict: Option<Verdict>,
}

impl Engine {
    /// A run that has not begun.
    #[must_use]
    pub fn new(spec: Spec, now: Duration) -> Self {
        Self {
            spec,
            state: State::Waiting { since: now },
            members: Members::default(),
            epoch: 0,
            world: BTreeSet::new(),
            activity: None,
            committed_step: 0,
            weights_digest: String::new(),
            consecutive_skips: 0,
            checkpointed_step: 0,
            kept: Vec::new(),
            refusals: BTreeMap::new(),
            interrupted: false,
            ticked: now,
            last_verdict: None,
        }
    }

    /// Takes an event and decides. `now` is the time since the coordinator's start, and never falls.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        if !matches!(self.state, State::Ended(_)) {
            match event {
                Event::Tick => self.on_tick(now, &mut out),
                Event::Joining { stream, rank, join } => self.on_joining(now, stream, rank, &join, &mut out),
                Event::Message { sender, body } => self.on_message(now, sender, body, &mut out),
                Event::Disconnected { rank, incarnation, reason } => {
                    self.on_disconnected(now, rank, incarnation, reason, &mut out);
                }
                Event::Exited { rank, exit, last_lines } => {
                    self.on_exited(now, rank, exit, last_lines, &mut out);
                }
                Event::Planned { step, plan } => self.on_planned(now, step, plan, &mut out),
                Event::Scored { step, plan } => self.on_scored(now, step, plan, &mut out),
                Event::EvaluationPlanned { samples, sampling } => {
                    self.on_evaluation_planned(now, samples, &sampling, &mut out);
                }
                Event::EvaluationScored { metrics } => self.on_evaluation_scored(now, metrics, &mut out),
                Event::CheckpointStaged { folder } => self.on_checkpoint_staged(now, &folder, &mut out),
                Event::CheckpointPublished => self.on_checkpoint_published(now, &mut out),
                Event::Trouble { reason, exit_code } => self.fail(now, reason, exit_code, &mut out),
                Event::Interrupted => self.on_interrupted(now, &mut out),
            }
        }
        let verdict = self.verdict(now);
        if self.last_verdict.as_ref().is_none_or(|last| !last.says_the_same(&verdict)) {
            self.last_verdict = Some(verdict.clone());
            out.push(Command::Announce(verdict));
        }
        out
    }

    /// The newest committed step over all stages; 0 before the first.
    #[must_use]
    pub fn committed_step(&self) -> u64 {
        self.committed_step
    }

    /// What the run is at.
    #[must_use]
    pub fn activity(&self) -> Option<&Activity> {
        self.activity.as_ref()
    }

    /// The members, by rank.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<Rank, Member> {
        self.members.all()
    }

    /// The active epoch; 0 before the first world has formed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn on_tick(&mut self, now: Duration, out: &mut Vec<Command>) {
        // The coordinator itself was held up: what members said meanwhile may not have been read yet.
        if now.saturating_sub(self.ticked) > self.spec.lease / 2 {
            self.members.forgive(now);
        }
        self.ticked = now;
        match &self.state {
            State::Failing(_) => self.conclude_if_due(now, out),
            State::Finishing { deadline, .. } if now >= *deadline => self.end(out),
            State::Finishing { .. } | State::Ended(_) => {}
            State::Waiting { since } => {
                let deadline = *since + self.spec.forming;
                self.check_waiting(now, deadline, out);
            }
            State::Forming { deadline, .. } if now >= *deadline => self.fail_forming(now, out),
            _ => self.check_clocks(now, out),
        }
    }

    /// The members whose answer the run waits for.
    fn owing(&self) -> Vec<Rank> {
        let all_but =
            |done: &dyn Fn(&Rank) -> bool| self.world.iter().copied().filter(|r| !done(r)).collect();
        match &self.state {
            State::Staging { digests, .. } => all_but(&|r| digests.contains_key(r)),
            State::Stepping(stepping) => match &stepping.phase {
                StepPhase::Rollout(results) => all_but(&|r| results.contains_key(r)),
                StepPhase::Update { ready, .. } => all_but(&|r| ready.contains_key(r)),
                StepPhase::Commit { applied, .. } => all_but(&|r| applied.contains_key(r)),
                StepPhase::Planning | StepPhase::Scoring => Vec::new(),
            },
            State::Evaluating { phase: Evaluating::Answering { answers, .. }, .. } => {
                all_but(&|r| answers.contains_key(r))
            }
            State::Checkpointing { phase: Checkpointing::Writing { writers, written }, .. } => {
                writers.iter().copied().filter(|r| !written.contains_key(r)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn send(&self, rank: Rank, body: Order, out: &mut Vec<Command>) {
        if let Some(member) = self.members.live(rank) {
            out.push(Command::Send {
                rank,
                incarnation: member.incarnation,
                epoch: self.epoch,
                body: Box::new(body),
            });
        }
    }

    fn send_world(&self, body: &Order, out: &mut Vec<Command>) {
        for rank in &self.world {
            self.send(*rank, body.clone(), out);
        }
    }
}
