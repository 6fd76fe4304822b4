//! Decides what the run does next: events in, commands out. No clock, no randomness, no I/O.
//!
//! ```text
//! Waiting → Forming → Restoring → Running ⟲ {Staging, Stepping{Planning → Rollout → Scoring → Update → Commit},
//!    ↑                               │        Evaluating, Checkpointing, Paused}
//!    │                               ├── everything is done, or a person stops it ──→ Finishing → Ended
//!    └── evidence is gathered ← Failing ←── a worker is lost ── any state
//!                                    └── it cannot go on ──→ Finishing → Ended(Failed{reason})
//! ```
//!
//! Commands are carried out in order; a failed one stops those after it. So whatever follows a
//! [`Command::Journal`] in the list leaves only once the record is on disk. What the engine knows of the run's
//! progress it knows by records alone (`resume.rs`), so that a coordinator that is started again knows the same.
//!
//! Invariants, which the simulation checks and the tests name:
//! - **EP-1** one active epoch a run: numbers grow, and work is sent to members of the newest one alone.
//! - **EP-2** a commit names only members of its epoch, and all of them had their part prepared.
//! - **CO-1** a commit is on disk before it leaves, and is applied by those alone who prepared it.
//! - **ST-1** `committed_step` grows by one a commit, and falls only by a Restored that says so.
//! - **ST-2** in the surviving commits a step's samples count once: all of them but those in quarantine.
//! - **QU-1** a sample is quarantined only if workers die of it.
//! - **RC-1** nobody is given work who does not hold the newest committed step.
//! - **RC-2** a member that restores others holds the newest committed step.
//! - **TM-1** of two coordinators only that of the higher term commits.
//! - **LV-1** with faults removed every run ends by itself.

mod agenda;
mod checkpointing;
mod command;
mod commit;
mod defect;
mod digests;
mod evaluating;
mod event;
mod failing;
mod finishing;
mod forming;
mod going;
mod members;
mod messages;
mod mirroring;
mod quarantine;
mod record;
mod recovering;
mod restoring;
mod resume;
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
pub use defect::Defect;
pub use event::{Event, Exit, Sender};
pub use members::{Member, MemberState};
pub use record::{
    CheckpointRecord, DiscardRecord, EpochRecord, EvaluationRecord, QuarantineRecord, Record, RestoredRecord,
    Source, StageRecord, StepRecord, SuspectRecord,
};
pub use spec::{CarriedState, Spec};
pub use verdict::Verdict;
pub use work::{Choice, Plan, RolloutWork, UpdateWork};

use checkpointing::Publication;
use failing::StreamEnd;
use members::Members;
use proto::v1::coordinator_message::Body as Order;
use quarantine::{Doubt, Quarantine};
use resume::{At, Committed};
use state::{Checkpointing, Evaluating, Restoring, State, StepPhase};

/// A worker's place in the run, 0 to the number of workers − 1.
pub type Rank = u32;

/// The run's state machine.
#[derive(Debug)]
pub struct Engine {
    spec: Spec,
    state: State,
    members: Members,
    /// 0 before the first world forms.
    epoch: u64,
    /// The ranks of the active epoch; nobody between two.
    world: BTreeSet<Rank>,
    /// Ranks and hosts of the newest epoch, as it is recorded.
    placed: Vec<(Rank, String)>,
    /// Those over which weights were last cut.
    cut: Vec<(Rank, String)>,
    /// What the run does now; `None` before the world has formed.
    activity: Option<Activity>,
    /// The newest thing on the agenda that is done, by the records.
    done: Option<Activity>,
    committed: Option<Committed>,
    /// What every member must hold; `None` before the first stage.
    at: Option<At>,
    /// Of all weights, as every replica reports them; empty before the first stage.
    weights_digest: String,
    consecutive_skips: u32,
    /// Checkpoints on disk, oldest first.
    checkpoints: Vec<CheckpointRecord>,
    /// The stage that was evaluated last, the step of its best evaluation on the validation sets, and its SRCC.
    best: Option<(usize, u64, f64)>,
    /// How often each step was tried; none of them is named twice in a term, whatever was voided between.
    attempts: BTreeMap<u64, u32>,
    /// Checkpoints that the shell is putting in place.
    publishing: BTreeMap<CheckpointName, Publication>,
    /// What was done when a checkpoint was written.
    done_at: BTreeMap<CheckpointName, Activity>,
    /// The last strike that only the end of a stream speaks for.
    doubt: Option<Doubt>,
    /// The furthest step that was ever committed: those after a checkpoint may have to be repeated.
    furthest: u64,
    /// Losses since it, without those that brought a search further.
    losses: u32,
    quarantine: Quarantine,
    /// Whose process was started and did not join yet: another loss leaves it alone.
    starting: BTreeSet<Rank>,
    /// Why ranks were last turned away, for the message when their process then ends.
    refusals: BTreeMap<Rank, String>,
    /// A person asked to stop: what is under way is finished or dropped, and the run ends well.
    interrupted: bool,
    /// A person asked to hold.
    paused: bool,
    /// When the last [`Event::Tick`] came.
    ticked: Duration,
    last_verdict: Option<Verdict>,
    defect: Option<Defect>,
}

impl Engine {
    /// A run that has not begun.
    #[must_use]
    pub fn new(spec: Spec, now: Duration) -> Self {
        Self {
            state: State::Waiting { deadline: now + spec.forming, lost: None },
            members: Members::of_term(spec.term),
            starting: if spec.respawns { (0..spec.ranks()).collect() } else { BTreeSet::new() },
            spec,
            epoch: 0,
            world: BTreeSet::new(),
            placed: Vec::new(),
            cut: Vec::new(),
            activity: None,
            done: None,
            committed: None,
            at: None,
            weights_digest: String::new(),
            consecutive_skips: 0,
            checkpoints: Vec::new(),
            best: None,
            attempts: BTreeMap::new(),
            publishing: BTreeMap::new(),
            done_at: BTreeMap::new(),
            doubt: None,
            furthest: 0,
            losses: 0,
            quarantine: Quarantine::default(),
            refusals: BTreeMap::new(),
            interrupted: false,
            paused: false,
            ticked: now,
            last_verdict: None,
            defect: None,
        }
    }

    /// Takes an event and decides. `now` is the time since the coordinator's start, and never falls.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        match (&self.state, event) {
            // What stood before the end could not be carried out, and so the end was not.
            (State::Ended(_), Event::Trouble { reason, exit_code }) => {
                self.end_as(Outcome::Failed { reason, exit_code }, &mut out);
            }
            (State::Ended(_), Event::TermLost { reason }) => self.lose_term(reason, &mut out),
            (State::Ended(_), _) => {}
            (_, event) => self.take(now, event, &mut out),
        }
        let verdict = self.verdict(now);
        if self.last_verdict.as_ref().is_none_or(|last| !last.says_the_same(&verdict)) {
            self.last_verdict = Some(verdict.clone());
            out.push(Command::Announce(verdict));
        }
        out
    }

    fn take(&mut self, now: Duration, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Tick => self.on_tick(now, out),
            Event::Joining { stream, rank, join } => self.on_joining(now, stream, rank, &join, out),
            Event::Message { sender, body } => self.on_message(now, sender, body, out),
            Event::Disconnected { rank, incarnation, reason } => {
                self.on_stream_end(now, rank, incarnation, StreamEnd { reason, lives: false }, out);
            }
            Event::Exited { rank, process, exit, last_lines } => {
                self.on_exited(now, rank, process, exit, last_lines, out);
            }
            Event::Planned { step, attempt, plan } => self.on_planned(now, (step, attempt), plan, out),
            Event::Scored { step, attempt, plan } => self.on_scored(now, (step, attempt), plan, out),
            Event::EvaluationPlanned { epoch, samples, sampling } => {
                self.on_evaluation_planned(now, epoch, samples, &sampling, out);
            }
            Event::EvaluationScored { epoch, metrics } => {
                self.on_evaluation_scored(now, epoch, metrics, out);
            }
            Event::CheckpointStaged { epoch, folder } => {
                self.on_checkpoint_staged(now, epoch, &folder, out);
            }
            Event::CheckpointPublished(about) => self.on_checkpoint_published(now, about, out),
            Event::CheckpointOpened { name, folder } => {
                self.on_checkpoint_opened(now, &name, &folder, out);
            }
            Event::CheckpointBroken { name } => self.on_checkpoint_broken(now, &name, out),
            Event::Trouble { reason, exit_code } => self.fail(now, reason, exit_code, out),
            Event::TermLost { reason } => self.lose_term(reason, out),
            Event::Interrupted => self.on_interrupted(now, out),
            Event::Pause(pause) => self.on_pause(now, pause, out),
        }
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

    /// The newest epoch; 0 before the first world has formed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the next world is waited for because a worker was lost.
    #[must_use]
    pub fn waits_after_a_loss(&self) -> bool {
        matches!(self.state, State::Waiting { lost: Some(_), .. })
    }

    /// The coordinator's term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.spec.term
    }

    fn on_tick(&mut self, now: Duration, out: &mut Vec<Command>) {
        // The coordinator itself was held up: what members said meanwhile may not have been read yet.
        if now.saturating_sub(self.ticked) > self.spec.lease / 2 {
            self.members.forgive(now);
        }
        self.ticked = now;
        match &self.state {
            State::Finishing { deadline, .. } if now >= *deadline => return self.end(out),
            State::Finishing { .. } | State::Ended(_) => return,
            State::Failing(_) => return self.conclude_if_due(now, out),
            _ => {}
        }
        self.members.suspect(now, self.spec.lease / 2);
        self.check_clocks(now, out);
        match &self.state {
            State::Waiting { deadline, .. } if now >= *deadline => self.waited_enough(now, out),
            State::Forming { deadline, .. } if now >= *deadline => self.fail_forming(now, out),
            _ => {}
        }
    }

    /// The members whose answer the run waits for.
    fn owing(&self) -> Vec<Rank> {
        let all_but =
            |done: &dyn Fn(&Rank) -> bool| self.world.iter().copied().filter(|r| !done(r)).collect();
        match &self.state {
            State::Staging { digests, .. }
            | State::Restoring(Restoring::Loading { digests, .. } | Restoring::Healing { digests, .. }) => {
                all_but(&|r| digests.contains_key(r))
            }
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

    /// The stage of what is being done is cut over ranks.
    fn is_sharded(&self, stage: usize) -> bool {
        self.spec.stages.get(stage).is_some_and(|stage| stage.sharded)
    }
}
