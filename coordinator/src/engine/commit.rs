//! The commit: on disk first, then sent; once it is on disk the step is never discarded.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Applied, Commit, Held, StepReady};

use super::digests::{PartDigest, agreed};
use super::resume::Committed;
use super::state::{State, StepFacts, StepPhase};
use super::{Command, Defect, Engine, Rank, Record, StepRecord};

impl Engine {
    /// Every member of the epoch has prepared the step (EP-2).
    pub(super) fn commit(&mut self, out: &mut Vec<Command>) {
        let State::Stepping(stepping) = &mut self.state else { return };
        let StepPhase::Update { ready, facts } = &mut stepping.phase else { return };
        // Of a step whose samples are all in quarantine there is nothing to apply.
        let skip = facts.samples.is_empty() || !ready.values().all(is_finite);
        let metrics = summed(ready, &facts.metrics);
        let StepFacts { lr, cursor, samples, .. } = std::mem::replace(facts, StepFacts::empty());
        let record = StepRecord {
            step: stepping.step,
            stage: stepping.stage,
            number: stepping.number,
            attempt: stepping.attempt,
            skip,
            lr,
            members: ready.keys().copied().collect(),
            cursor,
            samples,
            metrics,
        };
        stepping.phase = StepPhase::Commit { skip, applied: BTreeMap::new() };
        let order = Order::Commit(Commit { step: record.step, skip, attempt: record.attempt });
        if self.broken(Defect::CommitBeforeJournal) {
            self.send_world(&order, out);
            return self.journal(Record::Step(record), out);
        }
        self.journal(Record::Step(record), out);
        self.send_world(&order, out);
    }

    /// A member came back with the newest committed step prepared: its coordinator went away between the journal and
    /// the wire. It can apply it now.
    pub(super) fn recommit(&mut self, rank: Rank, out: &mut Vec<Command>) {
        let Some(committed) = self.committed else { return };
        let held = self.members.live(rank).and_then(|m| m.held);
        let waits = held.is_some_and(|held| {
            held.step + 1 == committed.step
                && held.prepared.is_some_and(|p| (p.step, p.attempt) == (committed.step, committed.attempt))
        });
        if waits {
            let Committed { step, attempt, skip } = committed;
            self.send(rank, Order::Commit(Commit { step, skip, attempt }), out);
        }
    }

    pub(super) fn on_applied(&mut self, now: Duration, rank: Rank, done: Applied, out: &mut Vec<Command>) {
        if let Some(Held { stage, .. }) = self.members.live(rank).and_then(|m| m.held)
            && done.step == self.committed_step()
        {
            self.members.holds(rank, Some(self.holding(stage)));
        }
        if !self.world.contains(&rank) {
            return;
        }
        let State::Stepping(stepping) = &mut self.state else { return };
        let StepPhase::Commit { skip, applied } = &mut stepping.phase else { return };
        if done.step != stepping.step {
            return;
        }
        applied.entry(rank).or_insert(PartDigest::new(done.part, done.digest));
        if applied.len() < self.world.len() {
            return;
        }
        let (step, stage, skip, applied) = (stepping.step, stepping.stage, *skip, std::mem::take(applied));
        match agreed(&applied) {
            Ok(digest) => self.weights_digest = digest,
            Err(who) => {
                let reason = format!(
                    "the workers' weights differ after step {step}: {who}. The last checkpoint is the last that \
                     is known to be good"
                );
                return self.fail(now, reason, 1, out);
            }
        }
        let at = Some(self.holding(stage as u32));
        for rank in self.world.clone() {
            self.members.holds(rank, at);
        }
        let most = self.spec.stages.get(stage).map_or(0, |s| s.max_consecutive_skips);
        if skip && self.consecutive_skips >= most.max(1) {
            let first = step + 1 - u64::from(self.consecutive_skips);
            let reason = format!(
                "{} steps in a row were not finite (steps {first} to {step}) and were skipped: lower optimizer.lr, \
                 or raise optimizer.max_consecutive_skips ({most})",
                self.consecutive_skips
            );
            return self.fail(now, reason, 1, out);
        }
        self.advance(now, out);
    }
}

impl StepFacts {
    fn empty() -> Self {
        Self { lr: 0.0, cursor: String::new(), samples: Vec::new(), metrics: BTreeMap::new() }
    }
}

fn is_finite(ready: &StepReady) -> bool {
    ready.finite && ready.loss.is_finite() && ready.grad_norm.is_finite()
}

/// What was known before the update, the ranks' sums added up (of `max_…` the largest), the loss and the
/// gradient's norm.
fn summed(ready: &BTreeMap<Rank, StepReady>, known: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut metrics: BTreeMap<String, f64> = BTreeMap::new();
    for (name, value) in ready.values().flat_map(|r| &r.metrics) {
        match metrics.get_mut(name) {
            Some(total) if name.starts_with("max_") => *total = total.max(*value),
            Some(total) => *total += value,
            None => drop(metrics.insert(name.clone(), *value)),
        }
    }
    metrics.extend(known.iter().map(|(name, value)| (name.clone(), *value)));
    metrics.insert("loss".into(), ready.values().map(|r| r.loss).sum());
    metrics.insert("grad_norm".into(), ready.values().map(|r| r.grad_norm).fold(0.0, f64::max));
    metrics
}
