//! Samples on which workers die: found by halving, and left out from then on.
//!
//! A worker that ends by itself (where nobody sees its exit: whose stream ends), says that its work failed, or stands
//! still in its own work while it owes a share of a step *strikes* the samples of that share. Two strikes on one
//! uncommitted step that have samples in common begin a search: the step is tried with half of the suspects alone (a
//! *probe*, which is never committed).
//!
//! ```text
//! strike → strike, samples in common → probe ── goes through ──→ its samples are cleared ──→ probe, or nobody is left
//!                                        └──── strike ─────────→ all others are cleared ───→ probe
//!            the last suspect alone ─────┴──── two strikes ────→ it is quarantined
//! ```
//!
//! The last suspect is tried alone until two workers were lost over it alone: one may be by chance. What is known of a
//! search is in the records, so another coordinator goes on with it. A strike in a search at least halves the suspects,
//! or is on the last one: from `n` of them there are at most `max(2, log2(n) + 1)`. Those do not count towards
//! `recovery.max_discards`; whatever leads nowhere does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Discard, Join};

use super::failing::Evidence;
use super::state::{State, StepPhase, Stepping};
use super::{Choice, Command, Defect, Engine, QuarantineRecord, Rank, Record, SuspectRecord};

/// What the records say of samples on which workers die.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Left out of every step, in the order that they were found.
    found: Vec<QuarantineRecord>,
    /// The uncommitted step that was struck last, and by which samples it may have been.
    struck: Option<SuspectRecord>,
}

impl Quarantine {
    pub(super) fn suspect(&mut self, record: &SuspectRecord) {
        self.struck = Some(record.clone()).filter(|record| !record.samples.is_empty());
    }

    pub(super) fn keep(&mut self, record: &QuarantineRecord) {
        self.found.push(record.clone());
        self.struck = None;
    }

    /// A step is committed: whatever struck it was no sample of its own.
    pub(super) fn committed(&mut self, step: u64) {
        self.struck.take_if(|struck| struck.step == step);
    }

    /// The search that is on at a step.
    fn search(&self, step: u64) -> Option<&SuspectRecord> {
        self.struck.as_ref().filter(|struck| struck.searching && struck.step == step)
    }

    /// The suspects that are tried next: half of them.
    fn probe(&self, step: u64) -> Option<BTreeSet<String>> {
        let samples = &self.search(step)?.samples;
        Some(samples.iter().take(samples.len().div_ceil(2)).cloned().collect())
    }
}

impl SuspectRecord {
    fn nobody(step: u64) -> Self {
        Self { step, searching: false, alone: false, samples: Vec::new() }
    }
}

/// A strike by workers of which nothing is known but that their streams ended: if those processes join again, they lived.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Who is not back: process and host by rank.
    away: BTreeMap<Rank, (u32, String)>,
    /// What was known of the step's samples before.
    before: SuspectRecord,
}

impl Stepping {
    /// Who still owes his share, with its samples.
    pub(super) fn owed(&self) -> BTreeMap<Rank, Vec<String>> {
        let answered = |rank: &Rank| match &self.phase {
            StepPhase::Rollout(results) => results.contains_key(rank),
            StepPhase::Update { ready, .. } => ready.contains_key(rank),
            StepPhase::Planning | StepPhase::Scoring | StepPhase::Commit { .. } => true,
        };
        self.shares.iter().filter(|(rank, _)| !answered(rank)).map(|(r, ids)| (*r, ids.clone())).collect()
    }
}

impl Engine {
    /// Samples on which workers died, in the order that they were found: no step holds them any more.
    #[must_use]
    pub fn quarantined(&self) -> &[QuarantineRecord] {
        &self.quarantine.found
    }

    /// The step that is searched for a sample on which workers die, and how many may be it.
    #[must_use]
    pub fn search(&self) -> Option<(u64, usize)> {
        let struck = self.quarantine.struck.as_ref().filter(|struck| struck.searching)?;
        Some((struck.step, struck.samples.len()))
    }

    /// What the next try at a step holds.
    pub(super) fn choice(&self, step: u64) -> Choice {
        let without = self.quarantine.found.iter().map(|record| record.sample.clone()).collect();
        Choice { without, only: self.quarantine.probe(step) }
    }

    /// Takes a loss into account; whether it brought a search further.
    pub(super) fn strike(&mut self, evidence: &Evidence, reason: &str, out: &mut Vec<Command>) -> bool {
        let (Some((step, _)), struck) = (evidence.step, evidence.struck(self.spec.respawns)) else {
            return false;
        };
        if struck.is_empty() {
            return false;
        }
        let before = self.quarantine.struck.as_ref().filter(|before| before.step == step);
        let common = |before: &SuspectRecord| -> Vec<String> {
            before.samples.iter().filter(|id| struck.contains(id)).cloned().collect()
        };
        let (samples, again, twice) =
            before.map_or((Vec::new(), false, false), |b| (common(b), b.searching, b.alone));
        let alone = self.quarantine.probe(step).is_some_and(|probe| probe.len() == 1);
        let advances = again && !samples.is_empty();
        let record = match samples.as_slice() {
            // A first strike, or one of another cause.
            [] => Record::Suspected(SuspectRecord { step, searching: false, alone: false, samples: struck }),
            [sample, ..] if (alone && twice) || self.broken(Defect::QuarantinedUntried) => {
                let reason = reason.lines().next().unwrap_or_default().to_owned();
                Record::Quarantined(QuarantineRecord { step, sample: sample.clone(), reason })
            }
            _ => Record::Suspected(SuspectRecord { step, searching: true, alone, samples }),
        };
        let before = before.cloned().unwrap_or_else(|| SuspectRecord::nobody(step));
        let away: BTreeMap<Rank, (u32, String)> = evidence
            .only_by_stream(self.spec.respawns)
            .into_iter()
            .filter_map(|rank| Some((rank, self.members.all().get(&rank)?)))
            .map(|(rank, member)| (rank, (member.process, member.host.clone())))
            .collect();
        self.doubt = Some(Doubt { away, before }).filter(|doubt| !doubt.away.is_empty());
        self.journal(record, out);
        advances
    }

    /// A worker joins: the end of its stream was not its own end.
    pub(super) fn take_back(&mut self, rank: Rank, join: &Join, out: &mut Vec<Command>) {
        let same = |process: u32, host: &str| (process, host) == (join.process, join.host.as_str());
        if let State::Failing(evidence) = &mut self.state
            && self.members.all().get(&rank).is_some_and(|member| same(member.process, &member.host))
        {
            evidence.lives(rank);
        }
        let Some(doubt) = &mut self.doubt else { return };
        if doubt.away.get(&rank).is_some_and(|(process, host)| same(*process, host)) {
            doubt.away.remove(&rank);
        }
        let Some(Doubt { before, .. }) = self.doubt.take_if(|doubt| doubt.away.is_empty()) else { return };
        let struck = self.quarantine.struck.as_ref().is_some_and(|struck| struck.step == before.step);
        if struck {
            self.journal(Record::Suspected(before), out);
        }
    }

    /// A probe went through: workers do not die of its samples, and nothing of it is committed.
    pub(super) fn probe_passed(&mut self, now: Duration, out: &mut Vec<Command>) {
        let State::Stepping(Stepping { step, .. }) = self.state else { return };
        let cleared = self.quarantine.probe(step).unwrap_or_default();
        let mut samples = self.quarantine.search(step).map_or_else(Vec::new, |s| s.samples.clone());
        samples.retain(|id| !cleared.contains(id));
        self.journal(Record::Suspected(SuspectRecord { step, searching: true, alone: false, samples }), out);
        self.send_world(&Order::Discard(Discard { step }), out);
        self.advance(now, out);
    }
}
