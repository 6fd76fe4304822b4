//! Weights go to disk: rank 0 writes (under sharding every rank its part), the shell checks and publishes, old ones go.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{CheckpointWritten, WriteCheckpoint};
use serde::{Deserialize, Serialize};

use super::resume::activity_of;
use super::state::{Checkpointing, State};
use super::{CheckpointRecord, Command, Engine, Rank, Record};

/// Names a checkpoint's folder: `STAGE-step-N`, N counted over all stages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// A checkpoint on its way to its place.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) about: CheckpointRecord,
    /// What it holds is not void.
    pub(crate) stands: bool,
}

impl Engine {
    pub(super) fn begin_checkpoint(
        &mut self,
        now: Duration,
        stage: usize,
        number: u64,
        stage_end: bool,
        out: &mut Vec<Command>,
    ) {
        let step = self.committed_step();
        let name = self.spec.stages.get(stage).map(|s| s.name.clone()).unwrap_or_default();
        let name = CheckpointName { stage: name, step };
        let digest = self.weights_digest.clone();
        let about = CheckpointRecord { name: name.clone(), stage, number, step, stage_end, digest };
        if self.checkpoints.last().is_some_and(|last| last.name == name) {
            // It was written out of turn.
            self.journal(Record::Checkpoint(about), out);
            return self.advance(now, out);
        }
        let under_way = self.publishing.get(&name);
        let (waits, stands) = (under_way.is_some(), under_way.is_some_and(|under_way| under_way.stands));
        let phase = if stands { Checkpointing::Publishing } else { Checkpointing::Staging };
        self.state = State::Checkpointing { about, phase };
        // The place of one that is being put there is not free yet.
        if !waits {
            out.push(Command::StageCheckpoint { name, epoch: self.epoch });
        }
    }

    pub(super) fn on_checkpoint_staged(
        &mut self,
        now: Duration,
        epoch: u64,
        folder: &Path,
        out: &mut Vec<Command>,
    ) {
        let State::Checkpointing { about, phase } = &mut self.state else { return };
        if epoch != self.epoch || !matches!(phase, Checkpointing::Staging) {
            return;
        }
        // Where weights are cut over ranks, every one of them gives its part.
        let sharded = self.spec.stages.get(about.stage).is_some_and(|stage| stage.sharded);
        let count = if sharded { self.world.len() } else { 1 };
        let writers: Vec<Rank> = self.world.iter().copied().take(count).collect();
        *phase = Checkpointing::Writing { writers: writers.clone(), written: BTreeMap::new() };
        let (folder, optimizer) = (folder.display().to_string(), self.spec.state.keep);
        let order = WriteCheckpoint { step: about.step, folder, optimizer };
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
        let State::Checkpointing { about, phase } = &mut self.state else { return };
        let Checkpointing::Writing { writers, written } = phase else { return };
        if done.step != about.step || !writers.contains(&rank) {
            return;
        }
        written.entry(rank).or_insert_with(|| done.digests.into_iter().collect());
        if written.len() < writers.len() {
            return;
        }
        let digests = std::mem::take(written).into_values().flatten().collect();
        *phase = Checkpointing::Publishing;
        self.publishing.insert(about.name.clone(), Publication { about: about.clone(), stands: true });
        out.push(Command::PublishCheckpoint { about: about.clone(), digests });
    }

    /// It is on disk, whether its epoch still stands or not: it holds what is committed.
    pub(super) fn on_checkpoint_published(
        &mut self,
        now: Duration,
        about: CheckpointRecord,
        out: &mut Vec<Command>,
    ) {
        let stands = self.publishing.remove(&about.name).is_some_and(|under_way| under_way.stands);
        if let State::Checkpointing { about: next, phase: Checkpointing::Staging } = &self.state
            && next.name == about.name
        {
            // What it holds is void, and its place is free now.
            return out.push(Command::StageCheckpoint { name: about.name, epoch: self.epoch });
        }
        let held = self.at.map(|at| (at.stage, at.number, at.step));
        let known = self.checkpoints.contains(&about) && self.upcoming() != activity_of(&about);
        if !stands || self.state.is_over() || held != Some((about.stage, about.number, about.step)) {
            return;
        }
        let name = about.name.clone();
        if !known {
            self.journal(Record::Checkpoint(about), out);
            self.remove_old(out);
        }
        if self.state.checkpoint() == Some(&name) {
            self.advance(now, out);
        }
    }

    /// Removes periodic checkpoints that `keep` no longer keeps; never the newest, nor the best of its stage.
    fn remove_old(&mut self, out: &mut Vec<Command>) {
        let best = self.best.map(|(stage, step, _)| (stage, step));
        let periodic: Vec<&CheckpointRecord> =
            self.checkpoints.iter().filter(|c| !c.stage_end && Some((c.stage, c.step)) != best).collect();
        let surplus = periodic.len().saturating_sub(self.spec.keep.max(1) as usize);
        let old: Vec<CheckpointName> = periodic.into_iter().take(surplus).map(|c| c.name.clone()).collect();
        self.checkpoints.retain(|c| !old.contains(&c.name));
        out.extend(old.into_iter().map(Command::RemoveCheckpoint));
    }
}
