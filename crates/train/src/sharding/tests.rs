//! Every strategy on one to four ranks against one rank that holds everything.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use checkpoint::STATE_ABOUT;
use collective::{Group, LocalGroup, Nodes};
use settings::{Recompute, Sharding, Stage, StageKind, Trainable};
use tch::{Kind, Tensor};

use super::{Place, Seat};
use crate::testing::{answer_item, counts, distortion_item, model, policy_item, stage, weights};
use crate::{Counts, Item, Prepared, Trainer};

const SHARDED: [Sharding; 3] = [Sharding::Optimizer, Sharding::Full, Sharding::Hybrid];

/// What a step trains on, made anew where it is needed.
type Items = fn() -> Vec<Item>;

fn answers() -> Vec<Item> {
    vec![answer_item(1, true), answer_item(2, false), answer_item(3, false)]
}

fn rollouts() -> Vec<Item> {
    vec![policy_item(1, true, &[3, 2]), policy_item(2, false, &[4]), policy_item(3, true, &[1, 2, 3])]
}

fn pictures() -> Vec<Item> {
    vec![distortion_item(1), distortion_item(2), distortion_item(3)]
}

/// How one run goes on.
#[derive(Clone)]
struct Plan {
    stage: Stage,
    items: Items,
    tied: bool,
    steps: usize,
}

impl Plan {
    fn of(kind: StageKind, items: Items) -> Self {
        let mut stage = stage(kind);
        stage.optimizer.max_grad_norm = 0.0;
        // Several micro-batches a rank, and another number on each.
        stage.parallel.token_budget = 16;
        Self { stage, items, tied: true, steps: 1 }
    }

    fn sharded(&self, sharding: Sharding) -> Self {
        let mut plan = self.clone();
        plan.stage.parallel.sharding = sharding;
        plan
    }

    /// Item `i` belongs to rank `i % world`.
    fn share(&self, place: Place) -> (Vec<Item>, Counts) {
        let items = (self.items)();
        let counts = counts(&items);
        let own = items.into_iter().enumerate().filter(|(i, _)| i % place.of == place.index);
        (own.map(|(_, item)| item).collect(), counts)
    }

    fn trainer(&self, group: &dyn Group) -> Trainer {
        let model = model(self.tied);
        let weights = weights(&model.config);
        let deadline = Duration::from_secs(60);
        Trainer::at(Seat::in_group(group), model, weights, &self.stage, 1, deadline).expect("a whole model")
    }

    fn step(&self, trainer: &mut Trainer, group: &dyn Group) -> Prepared {
        let (items, counts) = self.share(Place::in_group(group));
        let prepared = trainer.prepare(&items, counts, 1e-3, group, &mut || {}).expect("a good step");
        trainer.commit(false).expect("prepared");
        prepared
    }
}

/// Weights by name.
type Weights = BTreeMap<String, Tensor>;

fn whole(trainer: &mut Trainer, group: &dyn Group) -> Weights {
    let weights = trainer.weights(group).expect("a good group");
    weights.into_iter().map(|(name, weight)| (name, weight.copy())).collect()
}

/// Runs `work` on every rank of a world, two on a node and the last alone where their number is odd.
fn on_ranks<T: Send + 'static>(
    world: usize,
    work: impl Fn(&dyn Group) -> T + Clone + Send + 'static,
) -> Vec<T> {
    on_nodes(&(0..world as u32).map(|rank| rank / 2).collect::<Vec<_>>(), work)
}

/// Runs `work` on every rank of a world whose ranks lie on these nodes.
fn on_nodes<T: Send + 'static>(
    nodes: &[u32],
    work: impl Fn(&dyn Group) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let ranks = Nodes::local(nodes).into_iter().map(|group| {
        let work = work.clone();
        thread::spawn(move || work(&group))
    });
    ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().expect("a good rank")).collect()
}

/// Weights after the plan's steps, and every step's gradient norm, the same on all ranks.
fn run(plan: &Plan, world: usize) -> (Weights, Vec<f64>) {
    let plan = plan.clone();
    let mut ranks = on_ranks(world, move |group| {
        let mut trainer = plan.trainer(group);
        let norms: Vec<f64> = (0..plan.steps).map(|_| plan.step(&mut trainer, group).grad_norm).collect();
        (whole(&mut trainer, group), norms)
    });
    assert!(ranks.iter().all(|(_, norms)| *norms == ranks[0].1), "norms differ over ranks");
    for (weights, _) in &ranks {
        assert!(
            weights.iter().all(|(name, weight)| *weight == ranks[0].0[name]),
            "weights differ over ranks"
        );
    }
    ranks.swap_remove(0)
}

/// Mean distance of two runs' weights, over the mean step from `start`.
fn error(start: &Weights, a: &Weights, b: &Weights) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let total = |from: &Weights, to: &Weights| -> f64 {
        to.iter().map(|(name, t)| (t - &from[name]).abs().sum(Kind::Double).double_value(&[])).sum()
    };
    total(a, b) / total(start, a)
}

fn start(plan: &Plan) -> Weights {
    let group = LocalGroup::alone();
    whole(&mut plan.trainer(&group), &group)
}

/// Holds every strategy and world to one rank's run.
fn assert_exact(plan: &Plan, bound: f64) {
    let (start, (expected, norms)) = (start(plan), run(plan, 1));
    for sharding in SHARDED {
        for world in 1..=4 {
            let (weights, own) = run(&plan.sharded(sharding), world);
            let error = error(&start, &expected, &weights);
            assert!(error <= bound, "{sharding:?} on {world}: {error:e}");
            // Later norms follow weights that differ by rounding already.
            let relative = (own[0] / norms[0] - 1.0).abs();
            assert!(relative <= 1e-6, "{sharding:?} on {world}: norm off by {relative:e}");
        }
    }
}

#[test]
fn one_policy_step_is_the_same_under_every_strategy_on_one_to_four_ranks() {
    assert_exact(&Plan::of(StageKind::Prpo, rollouts), 1e-4);
}

#[test]
fn a_clipped_step_is_the_same_under_every_strategy() {
    let mut plan = Plan::of(StageKind::Sft, answers);
    plan.stage.optimizer.max_grad_norm = 0.1;
    assert!(run(&plan, 1).1[0] > 0.1, "nothing to clip");
    assert_exact(&plan, 1e-4);
}

#[test]
fn five_steps_are_the_same_under_every_strategy() {
    assert_exact(&Plan { steps: 5, ..Plan::of(StageKind::Prpo, rollouts) }, 1e-2);
}

#[test]
fn a_head_of_its_own_a_frozen_tower_and_recomputation_change_nothing() {
    let mut plan = Plan { tied: false, ..Plan::of(StageKind::Prpo, rollouts) };
    assert_exact(&plan, 1e-4);
    plan.stage.parallel.recompute = Recompute::Blocks;
    assert_exact(&plan, 1e-4);
    plan.stage.trainable = Trainable::Language;
    assert_exact(&plan, 1e-4);
    plan.stage.trainable = Trainable::Vision;
    assert_exact(&plan, 1e-4);
}

#[test]
fn a_vision_stage_is_the_same_under_every_strategy() {
    assert_exact(&Plan::of(StageKind::Vision, pictures), 1e-4);
}

#[test]
fn ranks_without_pictures_or_samples_take_part_in_the_vision_blocks() {
    let one_of_four: Items = || vec![answer_item(1, false), answer_item(2, true)];
    assert_exact(&Plan::of(StageKind::Sft, one_of_four), 1e-4);
    let none: Items = || vec![answer_item(1, false)];
    assert_exact(&Plan::of(StageKind::Sft, none), 1e-4);
}

#[test]
fn a_rollout_sees_the_weights_of_the_last_commit() {
    for sharding in SHARDED {
        let plan = Plan::of(StageKind::Sft, answers).sharded(sharding);
        let expected = run(&plan, 2).0;
        let gathered = on_ranks(2, move |group| {
            let mut trainer = plan.trainer(group);
            plan.step(&mut trainer, group);
            trainer.gather(group).expect("a good group");
            let params = trainer.params().iter();
            let gathered: Weights = params.map(|(name, t)| (name.clone(), t.copy())).collect();
            plan.step(&mut trainer, group);
            gathered
        });
        for weights in gathered {
            assert_eq!(weights, expected, "{sharding:?}");
        }
    }
}

#[test]
fn a_rank_under_full_holds_its_share_of_the_state_alone() {
    let plan = Plan::of(StageKind::Sft, answers).sharded(Sharding::Full);
    let held = on_ranks(4, move |group| {
        let trainer = plan.trainer(group);
        assert!(trainer.params().is_empty());
        trainer.sharding().pieces().iter().map(|piece| piece.values.numel()).sum::<usize>()
    });
    let all: usize = weights(&model(true).config).values() * 3;
    assert_eq!(held.iter().sum::<usize>(), all, "every value once");
    assert!(held.iter().all(|&own| own < all / 3), "{held:?} of {all}");
}

/// Three steps, state written after the first by `writers` ranks and loaded by `readers`; the weights at the end.
fn interrupted(
    plan: &Plan,
    writers: (Sharding, usize),
    readers: (Sharding, usize),
    folder: &Path,
) -> Weights {
    let (first, to) = (plan.sharded(writers.0), folder.to_owned());
    on_ranks(writers.1, move |group| {
        let mut trainer = first.trainer(group);
        first.step(&mut trainer, group);
        trainer.save_state(&to).expect("written");
    });
    let (second, from) = (plan.sharded(readers.0), folder.to_owned());
    let mut ranks = on_ranks(readers.1, move |group| {
        let mut trainer = second.trainer(group);
        trainer.load_state(&from).expect("readable");
        second.step(&mut trainer, group);
        second.step(&mut trainer, group);
        whole(&mut trainer, group)
    });
    ranks.swap_remove(0)
}

#[test]
fn a_state_written_by_some_ranks_goes_on_in_a_world_of_another_size() {
    let mut plan = Plan { steps: 3, ..Plan::of(StageKind::Prpo, rollouts) };
    plan.stage.trainable = Trainable::Language;
    let (start, (expected, _)) = (start(&plan), run(&plan, 1));
    let (full, optimizer, replicate) = (Sharding::Full, Sharding::Optimizer, Sharding::Replicate);
    let hybrid = Sharding::Hybrid;
    for (writers, readers) in [
        ((full, 4), (full, 3)),
        ((full, 1), (full, 2)),
        ((full, 2), (optimizer, 4)),
        ((optimizer, 3), (full, 1)),
        ((optimizer, 3), (replicate, 1)),
        ((replicate, 1), (full, 3)),
        ((hybrid, 4), (full, 3)),
        ((full, 4), (hybrid, 3)),
        ((hybrid, 4), (hybrid, 1)),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let weights = interrupted(&plan, writers, readers, folder.path());
        let error = error(&start, &expected, &weights);
        assert!(error <= 1e-2, "{writers:?} to {readers:?}: {error:e}");
    }
}

#[test]
fn a_state_goes_on_bit_for_bit_on_the_same_ranks() {
    for sharding in SHARDED {
        let plan = Plan { steps: 3, ..Plan::of(StageKind::Sft, answers) };
        let folder = tempfile::tempdir().expect("temporary folder");
        let weights = interrupted(&plan, (sharding, 3), (sharding, 3), folder.path());
        assert_eq!(weights, run(&plan.sharded(sharding), 3).0);
    }
}

#[test]
fn a_state_that_lacks_a_part_is_refused_by_the_parts_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let plan = Plan::of(StageKind::Sft, answers).sharded(Sharding::Full);
    let (first, to) = (plan.clone(), folder.path().to_owned());
    on_ranks(2, move |group| drop(first.trainer(group).save_state(&to).expect("written")));
    let lost = "training_state-00002-of-00002.safetensors";
    std::fs::remove_file(folder.path().join(lost)).expect("written before");
    let error = plan.trainer(&LocalGroup::alone()).load_state(folder.path()).expect_err("half a state");
    assert!(error.to_string().contains(lost), "{error}");
}

#[test]
fn a_group_of_another_size_is_refused_before_anything_is_sent() {
    let plan = Plan::of(StageKind::Sft, answers).sharded(Sharding::Full);
    let mut trainer = plan.trainer(&LocalGroup::alone());
    let groups = LocalGroup::world(2);
    let (items, counts) = plan.share(Place::ALONE);
    let error = trainer.prepare(&items, counts, 1e-3, &groups[0], &mut || {}).expect_err("cut for one");
    assert!(error.to_string().contains("rank 0 of 2"), "{error}");
}

#[test]
fn an_export_from_shards_is_that_of_one_rank() {
    let source = tempfile::tempdir().expect("temporary folder");
    std::fs::write(source.path().join("config.json"), r#"{"dtype":"float32"}"#).expect("writable");
    let export = |plan: &Plan, world: usize| -> Vec<u8> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (plan, from, to) = (plan.clone(), source.path().to_owned(), folder.path().to_owned());
        on_ranks(world, move |group| {
            let mut trainer = plan.trainer(group);
            trainer.export(&from, &to, settings::Dtype::Bfloat16, group).expect("written");
        });
        std::fs::read(folder.path().join("model.safetensors")).expect("one file")
    };
    let plan = Plan::of(StageKind::Vision, pictures);
    let expected = export(&plan, 1);
    for sharding in SHARDED {
        assert!(export(&plan.sharded(sharding), 3) == expected, "{sharding:?}");
    }
}

/// Three nodes of two ranks, not in order.
const NODES: [u32; 6] = [1, 0, 1, 2, 0, 2];

#[test]
fn nodes_that_hold_copies_take_the_step_of_one_rank_and_agree() {
    let plan = Plan::of(StageKind::Prpo, rollouts).sharded(Sharding::Hybrid);
    let (start, (expected, norms)) = (start(&plan), run(&plan, 1));
    let ranks = on_nodes(&NODES, move |group| {
        let mut trainer = plan.trainer(group);
        let norm = plan.step(&mut trainer, group).grad_norm;
        (whole(&mut trainer, group), norm, trainer.part(), trainer.digest())
    });
    for (weights, norm, part, digest) in &ranks {
        let error = error(&start, &expected, weights);
        assert!(error <= 1e-4, "{error:e}");
        assert_eq!(*norm, ranks[0].1);
        assert!(
            (norm / norms[0] - 1.0).abs() <= 1e-6,
            "every parameter counts once: {norm} and {}",
            norms[0]
        );
        assert_eq!(part.of, 2);
        let copies: Vec<_> = ranks.iter().filter(|(_, _, other, _)| other == part).collect();
        assert!(copies.len() == 3 && copies.iter().all(|(_, _, _, other)| other == digest));
    }
    assert_ne!(ranks[0].3, ranks[2].3, "two ranks of a node own different slices");
}

#[test]
fn of_several_copies_the_first_node_writes_state_and_export() {
    let source = tempfile::tempdir().expect("temporary folder");
    std::fs::write(source.path().join("config.json"), r#"{"dtype":"float32"}"#).expect("writable");
    let (state, export) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (plan, from) =
        (Plan::of(StageKind::Sft, answers).sharded(Sharding::Hybrid), source.path().to_owned());
    let (to, out) = (state.path().to_owned(), export.path().to_owned());
    let wrote = on_nodes(&NODES, move |group| {
        let mut trainer = plan.trainer(group);
        let file = trainer.save_state(&to).expect("written").into_keys().find(|name| name != STATE_ABOUT);
        let export = trainer.export(&from, &out, settings::Dtype::Float32, group).expect("written");
        (file, !export.is_empty())
    });
    let part = |n: usize| Some(format!("training_state-0000{n}-of-00002.safetensors"));
    // Rank 1 and rank 4 are node 0.
    let expected =
        [(None, false), (part(1), true), (None, false), (None, false), (part(2), false), (None, false)];
    assert_eq!(wrote, expected);
    assert_eq!(std::fs::read_dir(state.path()).expect("a folder").count(), 3);
}

/// Bytes that a rank sends for a step (docs/benchmarks.md), of f32 `weights`, on `ranks` of which sets of `set` hold a
/// copy each, in `runs` micro-batches.
fn theory(sharding: Sharding, weights: &Weights, ranks: usize, set: usize, runs: usize) -> f64 {
    let bytes = |of: &dyn Fn(&str) -> bool| -> f64 {
        weights.iter().filter(|(name, _)| of(name)).map(|(_, t)| 4.0 * t.numel() as f64).sum()
    };
    let (all, embedding) = (bytes(&|_| true), bytes(&|name| name == "model.embed_tokens.weight"));
    let stay = bytes(&|name| name.starts_with("model.layers.1.") || name == "model.norm.weight");
    let share = |n: usize| (n as f64 - 1.0) / n as f64;
    let full = |n: usize| runs as f64 * share(n) * (2.0 * all + embedding - stay + all);
    match sharding {
        Sharding::Replicate | Sharding::Optimizer => 2.0 * share(ranks) * all,
        Sharding::Full => full(ranks),
        Sharding::Hybrid => full(set) + 2.0 * share(ranks / set) * all / set as f64,
    }
}

#[test]
fn what_a_rank_sends_is_what_theory_says_within_a_twentieth() {
    for (budget, runs) in [(1 << 14, 1), (1, 2)] {
        for sharding in [Sharding::Replicate, Sharding::Optimizer, Sharding::Full, Sharding::Hybrid] {
            let mut plan = Plan::of(StageKind::Sft, answers).sharded(sharding);
            plan.stage.parallel.token_budget = budget;
            let weights = start(&plan);
            // Four items, so that each rank has as many micro-batches.
            let items: Items = || (1..=4).map(|seed| answer_item(seed, true)).collect();
            plan.items = items;
            for (nodes, set) in [([0, 0].as_slice(), 2), (&[0, 0, 1, 1], 2)] {
                let ranks = nodes.len();
                let runs = runs.min(4 / ranks);
                let plan = plan.clone();
                let sent = on_nodes(nodes, move |group| {
                    let mut trainer = plan.trainer(group);
                    // After the first step every strategy has weights to bring together.
                    let _ = plan.step(&mut trainer, group);
                    let metrics = plan.step(&mut trainer, group).metrics;
                    ["all_reduce", "all_gather", "reduce_scatter"]
                        .map(|kind| metrics[&format!("sent_{kind}")])
                });
                let expected = theory(sharding, &weights, ranks, set, runs);
                for kinds in sent {
                    let ratio = kinds.iter().sum::<f64>() / expected;
                    let told = format!(
                        "{sharding:?} on {nodes:?}, {runs} micro-batches: {kinds:?}, {ratio} of theory"
                    );
                    assert!((0.95..=1.05).contains(&ratio), "{told}");
                }
            }
        }
    }
}
