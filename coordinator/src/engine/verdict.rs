//! What the run is waiting for, in a sentence.

use std::fmt;
use std::time::Duration;

use super::state::{Checkpointing, Evaluating, Restoring, State, StepPhase, Stepping};
use super::{Activity, Engine, Outcome};

/// What the run is at and why it is not further: "waiting: 1 of 2 workers, 12 s left".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state's name.
    pub state: &'static str,
    /// What it waits for.
    pub reason: String,
    /// Until it gives up.
    pub left: Option<Duration>,
}

impl Verdict {
    /// The same but for the time left: not worth another line in a log.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        (self.state, &self.reason) == (other.state, &other.reason)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.state, self.reason)?;
        match self.left {
            Some(left) => write!(f, ", {} s left", left.as_secs()),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// What the run is at, at `now`.
    #[must_use]
    pub fn verdict(&self, now: Duration) -> Verdict {
        let world = if self.world.is_empty() { self.spec.max_world } else { self.world.len() as u32 };
        let (state, reason, deadline) = match &self.state {
            State::Waiting { deadline, lost } => {
                let why = lost.as_deref().and_then(|lost| lost.lines().next());
                let why = why.map(|lost| format!(" after {lost}")).unwrap_or_default();
                let reason = format!("{} of {world} workers{why}", self.members.live_count());
                ("waiting", reason, Some(*deadline))
            }
            State::Forming { deadline, formed, .. } => {
                ("forming", format!("{} of {world} workers connected", formed.len()), Some(*deadline))
            }
            State::Restoring(restoring) => ("restoring", self.restoring(restoring), None),
            State::Staging { digests, .. } => {
                ("loading", format!("{}, {} of {world} workers ready", self.during(), digests.len()), None)
            }
            State::Paused => {
                ("paused", format!("held by a person after step {}", self.committed_step()), None)
            }
            State::Stepping(_) | State::Evaluating { .. } | State::Checkpointing { .. } => {
                let reason = format!("{}{}", self.during(), self.left_out());
                (if self.interrupted { "draining" } else { "running" }, reason, None)
            }
            State::Failing(evidence) => ("failing", evidence.first(), None),
            State::Finishing { deadline, outcome } => {
                let count = self.members.live_count();
                let why = match outcome {
                    Outcome::Finished => "the run is finished",
                    Outcome::Interrupted => "the run was interrupted",
                    Outcome::Failed { .. } => "the run failed",
                };
                ("stopping", format!("{why}, {count} of {world} workers still there"), Some(*deadline))
            }
            State::Ended(outcome) => {
                let reason = match outcome {
                    Outcome::Finished => "all stages are done".into(),
                    Outcome::Interrupted => format!("stopped as asked after step {}", self.committed_step()),
                    Outcome::Failed { reason, .. } => reason.clone(),
                };
                (outcome_name(outcome), reason, None)
            }
        };
        Verdict { state, reason, left: deadline.map(|d| d.saturating_sub(now)) }
    }

    /// What the world does now, as a phrase: "rollout of step 12 (stage explore, 12 of 780)".
    pub(super) fn during(&self) -> String {
        let stage = self.activity.and_then(Activity::stage).and_then(|s| self.spec.stages.get(s));
        let (name, steps) = stage.map_or(("?", 0), |s| (s.name.as_str(), s.steps));
        match &self.state {
            State::Stepping(stepping) => {
                let phase = match stepping.phase {
                    StepPhase::Planning => "planning",
                    StepPhase::Rollout(_) => "rollout",
                    StepPhase::Scoring => "scoring",
                    StepPhase::Update { .. } => "update",
                    StepPhase::Commit { .. } => "commit",
                };
                let probe = match self.search() {
                    Some((_, suspects)) if stepping.probe => {
                        format!(", searching {suspects} samples for one that workers die of")
                    }
                    _ => String::new(),
                };
                let Stepping { step, number, .. } = stepping;
                format!("{phase} of step {step} (stage {name}, {number} of {steps}{probe})")
            }
            State::Evaluating { set, moment, phase, .. } => {
                let what = match phase {
                    Evaluating::Planning => "planning the evaluation",
                    Evaluating::Answering { .. } => "evaluation",
                    Evaluating::Scoring => "scoring the evaluation",
                };
                format!("{what} on {set} ({moment} stage {name}, step {})", self.committed_step())
            }
            State::Checkpointing { about, phase } => match phase {
                Checkpointing::Staging | Checkpointing::Writing { .. } => {
                    format!("writing checkpoint {}", about.name)
                }
                Checkpointing::Publishing => format!("publishing checkpoint {}", about.name),
            },
            State::Restoring(restoring) => self.restoring(restoring),
            State::Paused => "a pause".into(),
            State::Staging { .. } => format!("start of stage {name}"),
            State::Waiting { .. } => "waiting for workers".into(),
            State::Forming { .. } => "forming the world".into(),
            State::Failing(evidence) => evidence.during.clone(),
            State::Finishing { .. } | State::Ended(_) => "the end".into(),
        }
    }
}

/// Quarantined samples that a verdict names.
const NAMED: usize = 3;

impl Engine {
    /// What no step holds any more: "; in quarantine: a, b".
    fn left_out(&self) -> String {
        let found = self.quarantined();
        if found.is_empty() {
            return String::new();
        }
        let named: Vec<&str> = found.iter().take(NAMED).map(|record| record.sample.as_str()).collect();
        let more = match found.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("; in quarantine: {}{more}", named.join(", "))
    }

    fn restoring(&self, restoring: &Restoring) -> String {
        let world = self.world.len();
        match restoring {
            Restoring::Opening(checkpoint) => format!("verifying checkpoint {}", checkpoint.name),
            Restoring::Loading { checkpoint, digests, .. } => {
                format!("loading checkpoint {}, {} of {world} workers ready", checkpoint.name, digests.len())
            }
            Restoring::Healing { source, digests, .. } => format!(
                "state after step {} from {source}, {} of {world} workers ready",
                self.committed_step(),
                digests.len()
            ),
        }
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::Interrupted => "interrupted",
        Outcome::Failed { .. } => "failed",
    }
}
