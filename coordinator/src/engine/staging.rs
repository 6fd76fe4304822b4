//! What comes next, and a stage's start.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{BeginStage, StageReady};

use super::digests::{PartDigest, agreed};
use super::state::State;
use super::{Activity, Command, Engine, Outcome, Rank, Record, StageRecord};

impl Engine {
    /// Goes on to what the agenda has next; after an interruption only to what keeps the work done.
    pub(super) fn advance(&mut self, now: Duration, out: &mut Vec<Command>) {
        if self.interrupted {
            self.drain(now, out);
        } else if let Some(activity) = self.activity {
            self.start(now, activity.next(&self.spec.stages), out);
        }
    }

    pub(super) fn start(&mut self, now: Duration, activity: Activity, out: &mut Vec<Command>) {
        self.activity = Some(activity);
        self.members.restart_progress(now);
        match activity {
            Activity::BeginStage { stage } => self.begin_stage(stage, out),
            Activity::Evaluate { stage, set, moment, .. } => self.begin_evaluation(stage, set, moment, out),
            Activity::Step { stage, number } => self.begin_step(stage, number, out),
            Activity::Checkpoint { stage, .. } => self.begin_checkpoint(stage, out),
            Activity::Finish => self.finish(now, Outcome::Finished, out),
        }
    }

    fn begin_stage(&mut self, stage: usize, out: &mut Vec<Command>) {
        self.consecutive_skips = 0;
        self.state = State::Staging { stage, digests: BTreeMap::new() };
        let weights = if stage == 0 { self.spec.weights.display().to_string() } else { String::new() };
        let state = self.spec.state.from.as_ref().filter(|_| stage == 0);
        let state = state.map(|folder| folder.display().to_string()).unwrap_or_default();
        self.send_world(&Order::BeginStage(BeginStage { stage: stage as u32, weights, state }), out);
    }

    pub(super) fn on_stage_ready(
        &mut self,
        now: Duration,
        rank: Rank,
        ready: StageReady,
        out: &mut Vec<Command>,
    ) {
        let State::Staging { stage, digests } = &mut self.state else { return };
        if ready.stage as usize != *stage {
            return;
        }
        digests.entry(rank).or_insert(PartDigest::new(ready.part, ready.digest));
        if digests.len() < self.world.len() {
            return;
        }
        let (stage, digests) = (*stage, std::mem::take(digests));
        match agreed(&digests) {
            Ok(digest) => {
                let name = self.spec.stages.get(stage).map(|s| s.name.clone()).unwrap_or_default();
                self.weights_digest.clone_from(&digest);
                out.push(Command::Journal(Record::Stage(StageRecord { stage, name, digest })));
                self.advance(now, out);
            }
            Err(who) => {
                let reason = format!(
                    "the workers do not hold the same weights at the {}: {who}. Does every host see the same \
                     model directory?",
                    self.during()
                );
                self.fail(now, reason, 1, out);
            }
        }
    }
}
