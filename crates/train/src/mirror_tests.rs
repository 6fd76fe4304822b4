//! Ranks that get their slices back from a neighbour's memory, against those that never lost them.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use collective::{Group, LocalGroup};
use settings::{Sharding, Stage, Trainable};

use crate::heal_tests::{moving, state, step};
use crate::testing::{model, weights};
use crate::{Error, Seat, Trainer};

const RANKS: usize = 3;

/// A stage whose reference moves, with frozen parameters or without.
fn cut(sharding: Sharding, trainable: Trainable) -> Stage {
    let mut stage = moving();
    stage.parallel.sharding = sharding;
    stage.trainable = trainable;
    stage
}

fn begin(stage: &Stage, by: usize, group: &dyn Group) -> Trainer {
    let model = model(true);
    let weights = weights(&model.config);
    let seat = Seat::in_group(group);
    let mut trainer =
        Trainer::at(seat, model, weights, stage, 1, Duration::from_secs(20)).expect("a whole model");
    trainer.mirror_by(by);
    trainer
}

fn on_each_rank<T: Send + 'static>(body: impl Fn(&LocalGroup) -> T + Clone + Send + 'static) -> Vec<T> {
    let ranks = LocalGroup::world(RANKS).into_iter().map(|group| {
        let body = body.clone();
        thread::spawn(move || body(&group))
    });
    ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().expect("ends")).collect()
}

/// What ranks hold after three steps, of which `lost` loses everything before the fourth, and after that.
fn told(stage: &Stage, by: usize, lost: &[usize]) -> Vec<[BTreeMap<String, Vec<u8>>; 2]> {
    let (stage, lost) = (stage.clone(), lost.to_vec());
    on_each_rank(move |group| {
        let mut trainer = begin(&stage, by, group);
        (1..=3).for_each(|seed| drop(step(&mut trainer, seed, group)));
        if !lost.is_empty() {
            if lost.contains(&group.rank()) {
                trainer = begin(&stage, by, group);
            }
            trainer.give_back(&lost, group, &mut || {}).expect("mirrored");
        }
        let given = state(&mut trainer);
        drop(step(&mut trainer, 4, group));
        assert_eq!(trainer.is_mirrored(), by > 0);
        [given, state(&mut trainer)]
    })
}

#[test]
fn a_lost_rank_gets_back_bit_for_bit_what_it_owned_and_the_world_goes_on_as_if_nothing_had_been() {
    for (sharding, trainable) in [
        (Sharding::Full, Trainable::All),
        (Sharding::Full, Trainable::Language),
        (Sharding::Hybrid, Trainable::All),
        (Sharding::Optimizer, Trainable::Language),
    ] {
        let stage = cut(sharding, trainable);
        let undisturbed = told(&stage, 0, &[]);
        for (by, lost) in [(1, [0].as_slice()), (2, &[1]), (1, &[2])] {
            let disturbed = told(&stage, by, lost);
            assert!(disturbed == undisturbed, "{sharding:?}, {trainable:?}, {lost:?} lost, mirrored by {by}");
        }
    }
}

#[test]
fn a_step_sends_the_slices_gradient_to_the_mirror_and_the_first_one_its_state_too() {
    let stage = cut(Sharding::Full, Trainable::All);
    let sent = on_each_rank(move |group| {
        let mut trainer = begin(&stage, 1, group);
        let own = |trainer: &Trainer| -> usize {
            trainer.sharding().slices().trained.iter().map(|slice| slice.grad.numel()).sum()
        };
        let bytes = 4.0 * own(&trainer) as f64;
        let sent = |trainer: &mut Trainer, seed| step(trainer, seed, group)["sent_mirror"] / bytes;
        [sent(&mut trainer, 1), sent(&mut trainer, 2)]
    });
    assert_eq!(sent, [[4.0, 1.0]; RANKS]);
}

#[test]
fn who_keeps_no_mirror_cannot_give_it_back() {
    let errors = on_each_rank(move |group| {
        let mut trainer = begin(&cut(Sharding::Full, Trainable::All), 1, group);
        // Before the first step nobody has one, and the rank that would give leaves the others.
        match trainer.give_back(&[0], group, &mut || {}) {
            Err(Error::NotMirrored) => {
                group.shutdown();
                "no mirror"
            }
            Err(Error::Collective(_)) => "left alone",
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(errors, ["left alone", "no mirror", "left alone"]);
    let mut whole = begin(&cut(Sharding::Replicate, Trainable::All), 1, &LocalGroup::alone());
    let refused = whole.give_back(&[0], &LocalGroup::alone(), &mut || {});
    assert!(matches!(refused, Err(Error::NotMirrored)));
}
