//! Which samples a step sees: a pure function of seed, stage and data epoch, whatever the number of ranks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use settings::{Sampler, Scope, Stage, StageKind};

use crate::draws::Draws;
use crate::error::Error;
use crate::sample::Sample;

/// How far a stage has come in its data; part of every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The least distortion level that is drawn from; 0 before the stage's first step.
    pub from_level: u8,
    /// Data epochs begun before this one.
    pub epoch: u64,
    /// Steps taken in this epoch.
    pub position: u64,
}

/// What one step sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Indices into the samples that the plan was made for; all different, `samples_per_step` of them.
    pub samples: Vec<usize>,
    /// Where the next step goes on.
    pub next: Cursor,
    /// If this step ends its epoch: the samples that the epoch leaves out, because they do not fill a step.
    pub tail: Vec<usize>,
}

/// The sampling plan of one stage.
///
/// An epoch is an order of all samples, cut into steps of `samples_per_step`; what is left over (another set
/// in each epoch) is dropped, so that no step is short and none holds a sample twice. `mixed` shuffles all
/// samples together. `published` shuffles each data set and cuts it into batches of samples that are compared
/// with one another (a device's under `reward.scope: device`, else a step's); the batches of all data sets stand
/// in random order, and as many as fill a step are one.
///
/// In supervised stages `supervised.gross_first` is a curriculum: in the first half of that share of the
/// stage's steps only distortion levels 4 and 5 are drawn, in the second half 3 to 5, and then all. Each
/// change begins a new epoch.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    stage: u64,
    sampler: Sampler,
    samples_per_step: usize,
    /// Samples in a row that come from one data set, where the sampler is the published one.
    batch: usize,
    /// Steps up to which levels 4 and 5, and then 3 to 5, are drawn.
    gross_until: [u64; 2],
    /// Per data set, in the order of their names: samples and levels.
    sets: Vec<Vec<(usize, u8)>>,
}

impl Plan {
    /// The plan of the stage at position `stage_index` of a run, over its training samples.
    ///
    /// # Errors
    /// If there are too few samples for a single step, at any point of the curriculum, or if a curriculum is
    /// asked for and a sample's distortion is not known.
    pub fn new(samples: &[Sample], seed: u64, stage_index: usize, stage: &Stage) -> Result<Self, Error> {
        let share = if stage.kind == StageKind::Prpo { 0.0 } else { stage.supervised.gross_first };
        let gross = share * stage.steps as f64;
        let mut sets = BTreeMap::<&str, Vec<(usize, u8)>>::new();
        for (i, sample) in samples.iter().enumerate() {
            let level = sample.distortion.as_ref().map(|distortion| distortion.level);
            if share > 0.0 && level.is_none() {
                return Err(Error::NoDistortion { id: sample.id.clone() });
            }
            sets.entry(&sample.dataset).or_default().push((i, level.unwrap_or(u8::MAX)));
        }
        let samples_per_step = stage.parallel.samples_per_step.max(1) as usize;
        let plan = Self {
            seed,
            stage: stage_index as u64,
            sampler: stage.data.sampler,
            samples_per_step,
            batch: match stage.reward.scope {
                Scope::Device => (stage.reward.group_samples.max(1) as usize).min(samples_per_step),
                Scope::Global => samples_per_step,
            },
            gross_until: [(gross / 2.0) as u64, gross as u64],
            sets: sets.into_values().collect(),
        };
        for step in [1, plan.gross_until[0] + 1, plan.gross_until[1] + 1] {
            plan.demand_one_step(plan.least_level(step))?;
        }
        Ok(plan)
    }

    /// What step `step` of the stage (1 is the first) sees when the stage has come to `cursor`. The first step
    /// takes the default cursor, every other the one that the step before gave.
    #[must_use]
    pub fn step(&self, step: u64, cursor: Cursor) -> Step {
        let from_level = self.least_level(step);
        let mut here = cursor;
        if from_level != cursor.from_level {
            let epoch = if cursor.from_level == 0 { 0 } else { cursor.epoch.wrapping_add(1) };
            here = Cursor { from_level, epoch, position: 0 };
        }
        let (mut steps, mut tail) = self.epoch(here);
        if here.position >= steps.len() as u64 {
            here = Cursor { epoch: here.epoch.wrapping_add(1), position: 0, ..here };
            (steps, tail) = self.epoch(here);
        }
        let next = Cursor { position: here.position + 1, ..here };
        if next.position < steps.len() as u64 {
            tail.clear();
        }
        Step { samples: steps.swap_remove(here.position as usize), next, tail }
    }

    /// Steps an epoch, once all levels are drawn.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        match self.sampler {
            Sampler::Mixed => self.eligible(1).concat().len() / self.samples_per_step,
            Sampler::Published => {
                let batches: usize = self.eligible(1).iter().map(|set| set.len() / self.batch).sum();
                batches / (self.samples_per_step / self.batch)
            }
        }
    }

    /// The least level drawn at a step.
    fn least_level(&self, step: u64) -> u8 {
        match self.gross_until {
            [until, _] if step <= until => 4,
            [_, until] if step <= until => 3,
            _ => 1,
        }
    }

    fn eligible(&self, from_level: u8) -> Vec<Vec<usize>> {
        let set = |set: &Vec<(usize, u8)>| {
            set.iter().filter(|(_, level)| *level >= from_level).map(|(i, _)| *i).collect()
        };
        self.sets.iter().map(set).collect()
    }

    /// The steps of an epoch, in order, and what is left over.
    fn epoch(&self, cursor: Cursor) -> (Vec<Vec<usize>>, Vec<usize>) {
        let mut draws =
            Draws::new("plan", &[self.seed, self.stage, cursor.from_level.into(), cursor.epoch], "");
        let mut sets = self.eligible(cursor.from_level);
        if self.sampler == Sampler::Mixed {
            sets = vec![sets.concat()];
        }
        let batch = if self.sampler == Sampler::Published { self.batch } else { self.samples_per_step };
        let (mut batches, mut tail) = (Vec::new(), Vec::new());
        for mut set in sets {
            draws.shuffle(&mut set);
            let cut = set.chunks_exact(batch);
            tail.extend_from_slice(cut.remainder());
            batches.extend(cut.map(<[usize]>::to_vec));
        }
        if self.sampler == Sampler::Published {
            draws.shuffle(&mut batches);
        }
        let steps = batches.chunks_exact(self.samples_per_step / batch);
        tail.extend(steps.remainder().concat());
        (steps.map(<[Vec<usize>]>::concat).collect(), tail)
    }

    fn demand_one_step(&self, from_level: u8) -> Result<(), Error> {
        let sets = self.eligible(from_level);
        let (have, of) = match self.sampler {
            Sampler::Mixed => (sets.iter().map(Vec::len).sum(), ""),
            Sampler::Published if self.batch < self.samples_per_step => {
                (sets.iter().map(|set| set.len() / self.batch * self.batch).sum(), " in whole device batches")
            }
            Sampler::Published => (sets.iter().map(Vec::len).max().unwrap_or(0), " of the largest data set"),
        };
        if have >= self.samples_per_step {
            return Ok(());
        }
        let level = if from_level > 1 { format!(" at levels {from_level} to 5") } else { String::new() };
        Err(Error::TooFew { wanted: self.samples_per_step, have, which: format!("{of}{level}") })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Distortion, Media};

    /// Samples of data sets "0", "1", …, their levels going round.
    fn samples(sizes: &[usize]) -> Vec<Sample> {
        let of = |set: usize, i: usize| Sample {
            id: format!("{set}/{i}"),
            dataset: set.to_string(),
            media: Media::Image,
            images: Vec::new(),
            question: String::new(),
            mos: 3.0,
            reference: String::new(),
            distortion: Distortion::of(Path::new(&format!("I01_01_{:02}.png", i % 5 + 1))),
        };
        sizes.iter().enumerate().flat_map(|(set, &n)| (0..n).map(move |i| of(set, i))).collect()
    }

    fn stage(sets: &[&str]) -> Stage {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        settings::default_run(&sets).expect("good settings").stages.remove(0)
    }

    fn walk(plan: &Plan, steps: u64) -> Vec<(Cursor, Step)> {
        let mut cursor = Cursor::default();
        let mut seen = Vec::new();
        for step in 1..=steps {
            let taken = plan.step(step, cursor);
            seen.push((cursor, taken.clone()));
            cursor = taken.next;
        }
        seen
    }

    #[test]
    fn a_seeds_plan_is_recorded() {
        let plan = Plan::new(&samples(&[7]), 7, 0, &stage(&["parallel.samples_per_step=3"])).expect("a plan");
        let steps: Vec<_> = walk(&plan, 4).into_iter().map(|(_, step)| (step.samples, step.tail)).collect();
        assert_eq!(format!("{steps:?}"), RECORDED, "a seed's order must never change between versions");
    }

    const RECORDED: &str = "[([4, 6, 5], []), ([0, 2, 3], [1]), ([4, 2, 1], []), ([6, 0, 3], [5])]";

    #[test]
    fn seeds_stages_and_epochs_have_orders_of_their_own() {
        let order = |seed, index, epoch| {
            let plan = Plan::new(&samples(&[50]), seed, index, &stage(&["parallel.samples_per_step=50"]))
                .expect("a plan");
            plan.step(1, Cursor { from_level: 1, epoch, position: 0 }).samples
        };
        let orders = BTreeSet::from([order(1, 0, 0), order(2, 0, 0), order(1, 1, 0), order(1, 0, 1)]);
        assert_eq!(orders.len(), 4);
        assert_eq!(order(1, 0, 0), order(1, 0, 0));
    }

    #[test]
    fn gross_levels_come_first_in_supervised_stages_only() {
        let sets = ["parallel.samples_per_step=4", "steps=8", "supervised.gross_first=0.5"];
        let samples = samples(&[40]);
        let least = |stage: &Stage| {
            let plan = Plan::new(&samples, 1, 0, stage).expect("a plan");
            let level = |i: &usize| samples[*i].distortion.as_ref().map_or(0, |distortion| distortion.level);
            let least = |(_, step): (Cursor, Step)| step.samples.iter().map(level).min().unwrap_or(0);
            walk(&plan, 8).into_iter().map(least).collect::<Vec<_>>()
        };
        let mut stage = stage(&sets);
        assert!(least(&stage)[..4].iter().any(|&level| level < 3));
        stage.kind = StageKind::Vision;
        let least = least(&stage);
        assert!(
            least[..2].iter().all(|&level| level >= 4) && least[2..4].iter().all(|&level| level >= 3),
            "{least:?}"
        );
        assert!(least[4..].iter().any(|&level| level < 3), "{least:?}");
    }

    #[test]
    fn too_few_samples_for_a_step_are_said_so() {
        let said = |sizes: &[usize], sets: &[&str], kind| {
            let mut stage = stage(sets);
            stage.kind = kind;
            Plan::new(&samples(sizes), 1, 0, &stage).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(said(&[32], &[], StageKind::Prpo), Ok(()));
        assert_eq!(
            said(&[31], &[], StageKind::Prpo),
            Err("samples_per_step 32 is more than the 31 training samples; expected at most 31".into())
        );
        assert_eq!(
            said(&[31, 20], &["data.sampler=published"], StageKind::Prpo),
            Err("samples_per_step 32 is more than the 31 training samples of the largest data set; expected at most 31".into())
        );
        assert_eq!(
            said(&[50], &["supervised.gross_first=1", "steps=10"], StageKind::Sft),
            Err("samples_per_step 32 is more than the 20 training samples at levels 4 to 5; expected at most 20".into())
        );
        let mut plain = samples(&[40]);
        plain[3].distortion = None;
        let mut stage = stage(&["supervised.gross_first=1"]);
        assert!(Plan::new(&plain, 1, 0, &stage).is_ok());
        stage.kind = StageKind::Sft;
        let said = Plan::new(&plain, 1, 0, &stage).expect_err("no distortion").to_string();
        assert!(said.starts_with("0/3: no distortion in its file name"), "{said}");
    }

    #[test]
    fn a_cursor_from_anywhere_gives_a_step() {
        let plan = Plan::new(&samples(&[40]), 1, 0, &stage(&[])).expect("a plan");
        for cursor in [
            Cursor { from_level: 1, epoch: u64::MAX, position: u64::MAX },
            Cursor { from_level: 9, epoch: u64::MAX, position: 1 },
        ] {
            assert_eq!(plan.step(u64::MAX, cursor).samples.len(), 32);
        }
    }

    #[test]
    fn a_devices_batch_comes_from_one_data_set_and_a_step_may_hold_several() {
        let sets = ["parallel.samples_per_step=8", "reward.group_samples=4", "reward.scope=device"];
        let stage = stage(&[sets.as_slice(), &["data.sampler=published"]].concat());
        let samples = samples(&[21, 22, 6]);
        let plan = Plan::new(&samples, 3, 0, &stage).expect("a plan");
        assert_eq!(plan.steps_per_epoch(), 5, "5 + 5 + 1 batches, two a step");
        let (mut mixed, mut seen) = (0, Vec::new());
        for (_, step) in walk(&plan, plan.steps_per_epoch() as u64) {
            let of = |batch: &[usize]| {
                let sets: BTreeSet<&str> = batch.iter().map(|&i| samples[i].dataset.as_str()).collect();
                assert_eq!(sets.len(), 1, "{batch:?}");
                sets
            };
            let sets: Vec<_> = step.samples.chunks(4).map(of).collect();
            mixed += usize::from(sets[0] != sets[1]);
            seen.extend(step.samples.into_iter().chain(step.tail));
        }
        assert!(mixed > 0);
        seen.sort_unstable();
        assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>());
        let alone = stage.clone();
        let said = Plan::new(&samples[21..28], 3, 0, &alone).expect_err("too few").to_string();
        assert!(said.contains("more than the 4 training samples in whole device batches"), "{said}");
    }

    proptest! {
        #[test]
        fn every_sample_comes_exactly_once_an_epoch_or_stands_in_its_tail(
            sizes in prop::collection::vec(1usize..40, 1..4), per_step in 1u32..9, seed: u64, published: bool,
        ) {
            let sampler = if published { "data.sampler=published" } else { "data.sampler=mixed" };
            let stage = stage(&[&format!("parallel.samples_per_step={per_step}"), sampler]);
            let samples = samples(&sizes);
            let Ok(plan) = Plan::new(&samples, seed, 0, &stage) else { return Ok(()) };
            let per_epoch = plan.steps_per_epoch();
            let walked = walk(&plan, 2 * per_epoch as u64);
            for epoch in walked.chunks(per_epoch) {
                let mut seen: Vec<usize> = epoch.iter().flat_map(|(_, step)| step.samples.iter().chain(&step.tail)).copied().collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>());
            }
            for (cursor, step) in &walked {
                prop_assert_eq!(step.samples.len(), per_step as usize);
                prop_assert_eq!(&plan.step(1, *cursor), step);
                if published {
                    let sets: BTreeSet<&str> = step.samples.iter().map(|&i| samples[i].dataset.as_str()).collect();
                    prop_assert_eq!(sets.len(), 1);
                }
            }
        }
    }
}
