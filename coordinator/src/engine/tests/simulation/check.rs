//! The journals of all terms, and the invariants over what is written and sent.

use proto::v1::Held;

use super::*;

/// What is on disk.
#[derive(Default)]
pub(super) struct Journals {
    /// Every term's own file, the newest last.
    pub(super) files: Vec<(u64, Vec<Record>)>,
    /// (incarnation, step, attempt) of which a worker ever said that it is prepared.
    pub(super) prepared: BTreeSet<(u64, u64, u32)>,
}

impl Journals {
    pub(super) fn of(&self, term: u64) -> &[Record] {
        self.files.iter().find(|(t, _)| *t == term).map_or(&[], |(_, records)| records)
    }

    pub(super) fn newest(&self) -> &[Record] {
        self.files.last().map_or(&[], |(_, records)| records)
    }
}

/// What the records say, by the plain words of the invariants and not by the engine's code.
#[derive(Default)]
pub(super) struct Told {
    pub(super) epoch: Option<EpochRecord>,
    /// Surviving steps in order.
    pub(super) steps: Vec<StepRecord>,
    /// In quarantine.
    pub(super) left_out: BTreeSet<String>,
}

impl Told {
    pub(super) fn by(records: &[Record]) -> Self {
        let mut told = Self::default();
        for record in records {
            match record {
                Record::Epoch(epoch) => told.epoch = Some(epoch.clone()),
                Record::Step(step) => told.steps.push(step.clone()),
                Record::Quarantined(found) => drop(told.left_out.insert(found.sample.clone())),
                Record::Restored(restored) => told.steps.retain(|step| step.step <= restored.to),
                _ => {}
            }
        }
        told
    }

    pub(super) fn committed(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.step)
    }
}

impl World {
    /// A coordinator of `term` has put `record` on disk, behind `before`.
    pub(super) fn check_record(&mut self, term: u64, before: &[Record], record: &Record) {
        let told = Told::by(before);
        match record {
            Record::Epoch(epoch) => {
                let last = told.epoch.map_or(0, |e| e.epoch);
                if epoch.epoch != last + 1 {
                    self.violate("EP-1", || format!("epoch {} follows epoch {last}", epoch.epoch));
                }
            }
            Record::Step(step) => {
                let newest = self.journals.files.last().map_or(0, |(term, _)| *term);
                if term < newest {
                    self.violate("TM-1", || {
                        format!("term {term} commits step {} in term {newest}", step.step)
                    });
                }
                if step.step != told.committed() + 1 {
                    let last = told.committed();
                    self.violate("ST-1", || format!("step {} is committed after step {last}", step.step));
                }
                let members = told.epoch.as_ref().map(|e| e.members.clone()).unwrap_or_default();
                let prepared = |(rank, incarnation): (&Rank, &u64)| {
                    step.members.contains(rank)
                        && self.journals.prepared.contains(&(*incarnation, step.step, step.attempt))
                };
                if members.len() != step.members.len() || !members.iter().all(prepared) {
                    self.violate("EP-2", || {
                        format!(
                            "step {} (attempt {}) was not prepared by all of {members:?}",
                            step.step, step.attempt
                        )
                    });
                }
                let mut expected = ids(step.step);
                expected.retain(|id| !told.left_out.contains(id));
                if step.samples != expected {
                    let held = &step.samples;
                    self.violate("ST-2", || {
                        format!("step {} holds {held:?}, expected {expected:?}", step.step)
                    });
                }
                let twice = step.samples.iter().find(|id| told.steps.iter().any(|s| s.samples.contains(*id)));
                if let Some(id) = twice {
                    self.violate("ST-2", || format!("sample {id} is committed twice"));
                }
                if told.steps.iter().any(|s| (s.stage, s.number) == (step.stage, step.number)) {
                    self.violate("ST-2", || format!("step {} of its stage is committed twice", step.number));
                }
            }
            Record::Quarantined(found)
                if self.poison.as_ref().is_none_or(|(sample, _)| *sample != found.sample) =>
            {
                self.violate("QU-1", || format!("{} is quarantined, and harms nobody", found.sample));
            }
            _ => {}
        }
    }

    /// A coordinator of `term` sends an order.
    pub(super) fn check_order(&mut self, term: u64, rank: Rank, incarnation: u64, epoch: u64, body: &Order) {
        let told = Told::by(self.journals.of(term));
        match body {
            Order::Commit(commit) => {
                let on_disk =
                    told.steps.last().is_some_and(|s| (s.step, s.attempt) == (commit.step, commit.attempt));
                if !on_disk {
                    self.violate("CO-1", || {
                        format!("the commit of step {} leaves before it is on disk", commit.step)
                    });
                }
            }
            Order::Rollout(_) | Order::Update(_) | Order::Evaluate(_) | Order::Restore(_) => {
                let member = told.epoch.as_ref().and_then(|e| e.members.get(&rank).map(|i| (e.epoch, *i)));
                if member != Some((epoch, incarnation)) {
                    self.violate("EP-1", || {
                        format!(
                            "{} of epoch {epoch} goes to rank {rank}, which is not of the newest",
                            named(body)
                        )
                    });
                }
            }
            _ => {}
        }
    }

    /// What a worker is about to do, against what it holds.
    pub(super) fn check_work(&mut self, rank: Rank, held: Option<Held>, body: &Order) {
        let holds = held.map_or(0, |held| held.step);
        let wanted = match body {
            Order::Rollout(order) => order.step - 1,
            Order::Update(order) => order.step - 1,
            Order::Evaluate(order) => order.step,
            Order::WriteCheckpoint(order) => order.step,
            _ => return,
        };
        if held.is_none() || holds != wanted {
            self.violate("RC-1", || format!("rank {rank} holds {held:?} and is given {}", named(body)));
        }
    }

    /// The run is over and well: what survives is all of it, once, and every replica holds the same.
    pub(super) fn check_end(&mut self) {
        let told = Told::by(self.journals.newest());
        let steps: Vec<(usize, u64)> = told.steps.iter().map(|s| (s.stage, s.number)).collect();
        let all = self.spec.stages.iter().enumerate();
        let expected: Vec<(usize, u64)> =
            all.flat_map(|(i, stage)| (1..=stage.steps).map(move |n| (i, n))).collect();
        if steps != expected {
            self.violate("ST-2", || format!("the surviving steps are {steps:?}, expected {expected:?}"));
        }
        let weights = told
            .steps
            .iter()
            .fold(workers::FRESH, |weights, step| workers::after(weights, (step.step, step.attempt)));
        let members = told.epoch.map(|e| e.members).unwrap_or_default();
        for rank in members.into_keys() {
            // One that was lost after the last step, and begun again, has nothing.
            let held = self.workers.get(&rank).filter(|w| w.held.is_some());
            if let Some(of) = held.map(|w| w.weights).filter(|of| *of != weights) {
                self.violate("ST-1", || {
                    format!("rank {rank} ends with {of}, an undisturbed run with {weights}")
                });
            }
        }
    }
}
