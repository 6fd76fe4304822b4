//! Healed and reloaded trainers against those that never lost anything.

use std::collections::BTreeMap;
use std::thread;

use collective::{Group, LocalGroup};
use settings::{Objective, Reference as Kept, Sharding, Stage, StageKind};

use crate::reference::Reference;
use crate::tensors::f32_bytes;
use crate::testing::{counts, policy_item, prepare, stage, trainer};
use crate::{Error, Trainer};

/// A policy stage whose reference moves after every second step, and so has state of its own.
pub(crate) fn moving() -> Stage {
    let mut stage = stage(StageKind::Prpo);
    let synced = Kept::Synced;
    stage.objective =
        Objective { reference: synced, sync_every: 2, sync_mixture: 0.3, ..Objective::default() };
    stage
}

pub(crate) fn step(trainer: &mut Trainer, seed: u64, group: &dyn Group) -> BTreeMap<String, f64> {
    let items = [policy_item(seed, true, &[3, 2])];
    let prepared = prepare(trainer, &items, counts(&items), group);
    trainer.commit(false).expect("prepared");
    prepared.metrics
}

/// Everything that going on depends on, as bytes.
pub(crate) fn state(trainer: &mut Trainer) -> BTreeMap<String, Vec<u8>> {
    let pieces = trainer.sharding().pieces().into_iter().map(|piece| (piece.name, piece.values));
    let reference = trainer.reference.as_ref().map(Reference::state).unwrap_or_default();
    let mut all: BTreeMap<String, Vec<u8>> =
        pieces.chain(reference).map(|(name, tensor)| (name, f32_bytes(&tensor))).collect();
    let kept = trainer.reference.as_ref().map_or(0, Reference::steps);
    all.insert("steps".to_owned(), [trainer.sharding().steps(), kept].map(u64::to_le_bytes).concat());
    all.insert("digest".to_owned(), trainer.digest().into_bytes());
    all
}

#[test]
fn ranks_that_lost_everything_are_healed_bit_for_bit_and_go_on_alike() {
    let ranks = LocalGroup::world(3).into_iter().map(|group| {
        thread::spawn(move || {
            let mut trainer = trainer(&moving());
            if group.rank() == 1 {
                // Three steps: the reference has moved once, and is a step old.
                (1..=3).for_each(|seed| drop(step(&mut trainer, seed, &LocalGroup::alone())));
            }
            let before = state(&mut trainer);
            let mut told = 0;
            trainer.heal(1, &group, &mut || told += 1).expect("all ranks are there");
            let healed = state(&mut trainer);
            // The same share on all three, so that all sum alike.
            let metrics = step(&mut trainer, 4, &group);
            (before, healed, metrics["kl"], state(&mut trainer), told)
        })
    });
    let ranks: Vec<_> =
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().expect("heals")).collect();
    let (source, ..) = &ranks[1];
    assert_ne!(&ranks[0].0, source, "a fresh trainer has another state");
    for (_, healed, kl, after, told) in &ranks {
        assert!(healed == source, "healed is not what the source holds");
        assert_eq!((kl, after), (&ranks[1].2, &ranks[1].3));
        assert!(*told > 10);
    }
}

#[test]
fn slices_cannot_be_healed_from_one_rank() {
    let mut cut = moving();
    cut.parallel.sharding = Sharding::Full;
    let error = trainer(&cut).heal(0, &LocalGroup::alone(), &mut || {}).expect_err("slices");
    assert!(matches!(error, Error::NotWhole { .. }), "{error}");
}

#[test]
fn a_source_of_another_stage_is_refused_before_anything_is_written() {
    let stages = [moving(), stage(StageKind::Vision)];
    let ranks = LocalGroup::world(2).into_iter().zip(stages).map(|(group, stage)| {
        thread::spawn(move || {
            let mut trainer = trainer(&stage);
            let before = trainer.digest();
            let healed = trainer.heal(0, &group, &mut || {});
            // The source goes on alone, finds the other gone, and is as it was.
            (healed.expect_err("sizes differ").to_string(), before == trainer.digest())
        })
    });
    let ranks: Vec<_> =
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().expect("ends")).collect();
    assert!(ranks[1].0.contains("has other sizes"), "{}", ranks[1].0);
    assert!(ranks.iter().all(|(_, same)| *same));
}

#[test]
fn a_saved_state_has_the_reference_as_it_was_then() {
    let alone = LocalGroup::alone();
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut first = trainer(&moving());
    (1..=3).for_each(|seed| drop(step(&mut first, seed, &alone)));
    first.save_state(folder.path()).expect("written");
    let saved = state(&mut first);
    let onward: Vec<f64> = (4..=6).map(|seed| step(&mut first, seed, &alone)["kl"]).collect();

    let mut second = trainer(&moving());
    second.load_state(folder.path()).expect("the same stage");
    assert!(state(&mut second) == saved, "loaded is not what was saved");
    let again: Vec<f64> = (4..=6).map(|seed| step(&mut second, seed, &alone)["kl"]).collect();
    assert_eq!((onward, state(&mut first)), (again, state(&mut second)));
}

#[test]
fn a_state_without_the_reference_that_the_stage_needs_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut free = moving();
    free.objective.beta = 0.0;
    let mut first = trainer(&free);
    drop(step(&mut first, 1, &LocalGroup::alone()));
    first.save_state(folder.path()).expect("written");

    let mut second = trainer(&moving());
    let before = state(&mut second);
    let error = second.load_state(folder.path()).expect_err("no reference in it");
    assert!(error.to_string().contains("the saved state has no \"reference/"), "{error}");
    assert!(state(&mut second) == before);
    // The other way round, what is not needed does no harm.
    let folder = tempfile::tempdir().expect("temporary folder");
    second.save_state(folder.path()).expect("written");
    first.load_state(folder.path()).expect("the stage needs no reference");
    assert_eq!(first.digest(), second.digest());
}
