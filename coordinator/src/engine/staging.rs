//! A stage's start.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{BeginStage, StageReady};

use super::digests::{PartDigest, agreed};
use super::state::State;
use super::{Command, Engine, Rank, Record, StageRecord};

impl Engine {
    pub(super) fn begin_stage(&mut self, stage: usize, out: &mut Vec<Command>) {
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
        let complete = digests.len() == self.world.len();
        let (stage, digests) = (*stage, if complete { std::mem::take(digests) } else { BTreeMap::new() });
        self.members.holds(rank, Some(self.holding(stage as u32)));
        if !complete {
            return;
        }
        match agreed(&digests) {
            Ok(digest) => {
                let name = self.spec.stages.get(stage).map(|s| s.name.clone()).unwrap_or_default();
                self.journal(Record::Stage(StageRecord { stage, name, digest }), out);
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
