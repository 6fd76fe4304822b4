//! Weights go to disk: rank 0 writes (under sharding every rank its part), the shell checks and publishes, old ones go.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{CheckpointWritten, WriteCheckpoint};

use super::state::{Checkpointing, State};
use super::{Activity, CheckpointRecord, Command, Engine, Outcome, Rank, Record};

/// Names a checkpoint's folder: `STAGE-step-N`, N counted over all stages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointName {
    /// The stage's name.
    pub stage: String,
    /// The newest committed step that it holds.
    pub step: u64,
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-step-{}", self.stage, self.step)
    }
}

impl Engine {
    pub(super) fn begin_checkpoint(&mut self, stage: usize, out: &mut Vec<Command>) {
        let stage = self.spec.stages.get(stage).map(|s| s.name.clone()).unwrap_or_default();
        let name = CheckpointName { stage, step: self.committed_step };
        self.state = State::Checkpointing { name: name.clone(), phase: Checkpointing::Staging };
        out.push(Command::StageCheckpoint(name));
    }

    pub(super) fn on_checkpoint_staged(&mut self, now: Duration, folder: &Path, out: &mut Vec<Command>) {
        let State::Checkpointing { name, phase } = &mut self.state else { return };
        if !matches!(phase, Checkpointing::Staging) {
            return;
        }
        // Where weights are cut over ranks, every one of them gives its part.
        let sharded = self.activity.and_then(Activity::stage).and_then(|stage| self.spec.stages.get(stage));
        let count = if sharded.is_some_and(|stage| stage.sharded) { self.world.len() } else { 1 };
        let writers: Vec<Rank> = self.world.iter().copied().take(count).collect();
        *phase = Checkpointing::Writing { writers: writers.clone(), written: BTreeMap::new() };
        let (folder, optimizer) = (folder.display().to_string(), self.spec.state.keep);
        let order = WriteCheckpoint { step: name.step, folder, optimizer };
        self.members.restart_progress(now);
        for writer in writers {
            self.send(writer, Order::WriteCheckpoint(order.clone()), out);
        }
    }

    pub(super) fn on_checkpoint_written(
        &mut self,
        rank: Rank,
        done: CheckpointWritten,
        out: &mut Vec<Command>,
    ) {
        let State::Checkpointing { name, phase } = &mut self.state else { return };
        let Checkpointing::Writing { writers, written } = phase else { return };
        if done.step != name.step || !writers.contains(&rank) {
            return;
        }
        written.entry(rank).or_insert_with(|| done.digests.into_iter().collect());
        if written.len() < writers.len() {
            return;
        }
        let digests = std::mem::take(written).into_values().flatten().collect();
        *phase = Checkpointing::Publishing;
        out.push(Command::PublishCheckpoint {
            name: name.clone(),
            digests,
            weights_digest: self.weights_digest.clone(),
        });
    }

    pub(super) fn on_checkpoint_published(&mut self, now: Duration, out: &mut Vec<Command>) {
        let State::Checkpointing { name, phase: Checkpointing::Publishing } = &self.state else { return };
        let name = name.clone();
        self.checkpointed_step = name.step;
        let record = CheckpointRecord { name: name.clone(), step: name.step };
        out.push(Command::Journal(Record::Checkpoint(record)));
        if !matches!(self.activity, Some(Activity::Checkpoint { stage_end: true, .. })) {
            self.kept.push(name);
            while self.kept.len() > self.spec.keep.max(1) as usize {
                out.push(Command::RemoveCheckpoint(self.kept.remove(0)));
            }
        }
        self.advance(now, out);
    }

    /// A person wants the run to stop: what is not on disk yet goes there, then everybody leaves.
    pub(super) fn drain(&mut self, now: Duration, out: &mut Vec<Command>) {
        match self.activity.and_then(Activity::stage) {
            Some(stage) if self.committed_step > self.checkpointed_step => {
                let done = self.committed_step;
                self.start(now, Activity::Checkpoint { stage, done, stage_end: false }, out);
            }
            _ => self.finish(now, Outcome::Interrupted, out),
        }
    }
}
