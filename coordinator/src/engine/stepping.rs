//! A step on its way to its commit: plan, roll out, score, update.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Rollout, RolloutsReady, Sample, SampleRollout, StepReady, TrainItem, Update};

use super::state::{State, StepFacts, StepPhase, Stepping};
use super::{Command, Defect, Engine, Plan, Rank, RolloutWork, UpdateWork};

/// The attempts of term `t` at a step begin above `(t − 1)` times this.
const ATTEMPTS_A_TERM: u32 = 1000;

impl Stepping {
    /// Its gradients are on their way: finishing it is cheaper than what it cost.
    pub(super) fn is_prepared_soon(&self) -> bool {
        matches!(self.phase, StepPhase::Update { .. } | StepPhase::Commit { .. })
    }
}

impl Engine {
    pub(super) fn begin_step(&mut self, stage: usize, number: u64, out: &mut Vec<Command>) {
        let step = self.committed_step() + 1;
        let tries = self.attempts.entry(step).or_default();
        *tries += 1;
        // No two coordinators give the same: gradients that lie ready somewhere are known by it.
        let attempt = (self.spec.term.saturating_sub(1) as u32) * ATTEMPTS_A_TERM + *tries;
        let (choice, phase) = (self.choice(step), StepPhase::Planning);
        let mut world: Vec<Rank> = self.world.iter().copied().collect();
        let probe = choice.only.is_some();
        if probe {
            // A suspect goes from rank to rank: a host that is at fault is not to be taken for a sample.
            let turns = attempt as usize % world.len().max(1);
            world.rotate_left(turns);
        }
        let shares = BTreeMap::new();
        self.state = State::Stepping(Stepping { stage, number, step, attempt, probe, shares, phase });
        out.push(Command::Plan { stage, number, step, attempt, world, choice });
    }

    pub(super) fn on_planned(
        &mut self,
        now: Duration,
        asked: (u64, u32),
        plan: Plan,
        out: &mut Vec<Command>,
    ) {
        match &self.state {
            State::Stepping(s) if Self::is_asked(s, asked) && matches!(s.phase, StepPhase::Planning) => {}
            _ => return,
        }
        self.members.restart_progress(now);
        self.go_on(plan, out);
    }

    fn begin_rollout(&mut self, mut work: RolloutWork, out: &mut Vec<Command>) {
        let State::Stepping(stepping) = &mut self.state else { return };
        let (step, attempt) = (stepping.step, stepping.attempt);
        stepping.phase = StepPhase::Rollout(BTreeMap::new());
        let ids = |share: &Vec<Sample>| share.iter().map(|sample| sample.id.clone()).collect();
        stepping.shares = work.samples.iter().map(|(rank, share)| (*rank, ids(share))).collect();
        for rank in &self.world {
            let samples = work.samples.remove(rank).unwrap_or_default();
            let order = Rollout { step, attempt, samples, sampling: Some(work.sampling) };
            self.send(*rank, Order::Rollout(order), out);
        }
    }

    pub(super) fn on_rollouts_ready(
        &mut self,
        now: Duration,
        rank: Rank,
        ready: RolloutsReady,
        out: &mut Vec<Command>,
    ) {
        let State::Stepping(stepping) = &mut self.state else { return };
        let expected = (stepping.step, stepping.attempt);
        let StepPhase::Rollout(results) = &mut stepping.phase else { return };
        if (ready.step, ready.attempt) != expected {
            return;
        }
        if let Some(reason) = unusable(&ready.samples) {
            return self.fail(now, reason, 2, out);
        }
        results.entry(rank).or_insert(ready.samples);
        if results.len() == self.world.len() {
            if stepping.probe {
                return self.probe_passed(now, out);
            }
            let rollouts = std::mem::take(results);
            let (stage, step, attempt) = (stepping.stage, stepping.step, stepping.attempt);
            stepping.phase = StepPhase::Scoring;
            out.push(Command::Score { stage, step, attempt, rollouts });
        }
    }

    pub(super) fn on_scored(&mut self, now: Duration, asked: (u64, u32), plan: Plan, out: &mut Vec<Command>) {
        match &self.state {
            State::Stepping(s) if Self::is_asked(s, asked) && matches!(s.phase, StepPhase::Scoring) => {}
            _ => return,
        }
        self.members.restart_progress(now);
        self.go_on(plan, out);
    }

    /// Whether the shell's answer is to this try at the step, not to one that was dropped meanwhile.
    fn is_asked(stepping: &Stepping, asked: (u64, u32)) -> bool {
        (stepping.step, stepping.attempt) == asked
    }

    fn go_on(&mut self, plan: Plan, out: &mut Vec<Command>) {
        match plan {
            Plan::Rollout(work) => self.begin_rollout(work, out),
            Plan::Update(work) => self.begin_update(work, out),
        }
    }

    fn begin_update(&mut self, work: UpdateWork, out: &mut Vec<Command>) {
        let State::Stepping(stepping) = &mut self.state else { return };
        let UpdateWork { lr, counts, mut items, samples, cursor, metrics } = work;
        let (step, attempt, stage) = (stepping.step, stepping.attempt, stepping.stage as u32);
        stepping.phase =
            StepPhase::Update { ready: BTreeMap::new(), facts: StepFacts { lr, cursor, samples, metrics } };
        let ids = |share: &Vec<TrainItem>| {
            share.iter().filter_map(|i| Some(i.sample.as_ref()?.id.clone())).collect()
        };
        stepping.shares = items.iter().map(|(rank, share)| (*rank, ids(share))).collect();
        for rank in &self.world {
            let items = items.remove(rank).unwrap_or_default();
            let order = Update { step, attempt, stage, lr, counts: Some(counts), items };
            self.send(*rank, Order::Update(order), out);
        }
    }

    pub(super) fn on_step_ready(
        &mut self,
        now: Duration,
        rank: Rank,
        ready: StepReady,
        out: &mut Vec<Command>,
    ) {
        let State::Stepping(stepping) = &mut self.state else { return };
        let expected = (stepping.step, stepping.attempt);
        let StepPhase::Update { ready: prepared, .. } = &mut stepping.phase else { return };
        if (ready.step, ready.attempt) != expected {
            return;
        }
        prepared.entry(rank).or_insert(ready);
        let (enough, probe) = (prepared.len(), stepping.probe);
        if enough == self.world.len()
            || (self.broken(Defect::CommitWithoutOne) && enough + 1 == self.world.len())
        {
            if probe && !self.broken(Defect::ProbeCommitted) {
                return self.probe_passed(now, out);
            }
            self.commit(out);
        }
    }
}

/// The first sample that a worker could not use, as a sentence; a picture that cannot be read is wrong input.
pub(super) fn unusable(samples: &[SampleRollout]) -> Option<String> {
    let sample = samples.iter().find(|s| !s.error.is_empty())?;
    Some(format!("sample {:?}: {}", sample.sample_id, sample.error))
}
