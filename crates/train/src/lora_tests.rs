//! Adapters in training: against one graph, under every strategy, in references, stages and files.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use checkpoint::weights::WeightFiles;
use collective::{Aborter, Group, LocalGroup, ReduceOp, Sent, Work};
use model::{Adapters, Packed, PackedSample, Params, Qwen, VisionBatch, head, is_adapter, peft, run};
use settings::{Dtype, Recompute, Reference, Sharding, Stage, StageKind, Targets, Trainable};
use tch::{Kind, Tensor};

use crate::testing::{
    Draws, answer_item, counts, distance, distortion_item, model, policy_item, prepare, stage, weights,
};
use crate::{ADAPTER_FOLDER, Item, Place, Trainer};

type Weights = BTreeMap<String, Tensor>;

/// A stage with adapters everywhere.
fn lora(kind: StageKind) -> Stage {
    let mut stage = stage(kind);
    stage.trainable = Trainable::Lora;
    (stage.lora.rank, stage.lora.alpha, stage.lora.targets) = (3, 6.0, Targets::AllLinear);
    stage.optimizer.max_grad_norm = 0.0;
    stage
}

fn adapters(stage: &Stage) -> Adapters {
    Adapters::choose(&model(true).config, &stage.lora).expect("linear maps")
}

/// All weights, with adapters that do something.
fn start(stage: &Stage) -> Params {
    let config = model(true).config;
    let mut draws = Draws(21);
    let shapes = adapters(stage).shapes(&config, stage.lora.rank).into_iter();
    let drawn = shapes.map(|(name, shape)| (name, draws.tensor(&shape) * 0.2));
    weights(&config).into_iter().chain(drawn).collect()
}

fn trainer_at(stage: &Stage, weights: Params, group: &dyn Group) -> Trainer {
    let (place, deadline) = (Place::in_group(group), Duration::from_secs(60));
    Trainer::seeded(5, place.into(), model(true), weights, stage, 1, deadline).expect("fits")
}

fn trainer(stage: &Stage) -> Trainer {
    trainer_at(stage, start(stage), &LocalGroup::alone())
}

fn step(trainer: &mut Trainer, items: &[Item], group: &dyn Group) -> crate::Prepared {
    let prepared = prepare(trainer, items, counts(items), group);
    trainer.commit(false).expect("prepared");
    prepared
}

fn gradients(stage: &Stage, items: &[Item]) -> Weights {
    let mut trainer = trainer(stage);
    prepare(&mut trainer, items, counts(items), &LocalGroup::alone());
    trainer.gradients().into_iter().map(|(name, gradient)| (name, gradient.copy())).collect()
}

fn answers() -> Vec<Item> {
    vec![answer_item(1, true), answer_item(2, false), answer_item(3, true)]
}

fn rollouts() -> Vec<Item> {
    vec![policy_item(1, true, &[3, 2]), policy_item(2, false, &[4]), policy_item(3, true, &[1, 2, 3])]
}

#[test]
fn the_gradient_of_adapters_is_that_of_one_graph_over_merged_weights() {
    let stage = lora(StageKind::Sft);
    let (model, adapters, base) = (model(true), adapters(&stage), start(&stage));
    let leaf = |(name, tensor): (String, Tensor)| {
        let trains = is_adapter(&name);
        (name, tensor.set_requires_grad(trains))
    };
    let leaves: Params = base.into_iter().map(leaf).collect();
    // W + scale · B · A, tracked.
    let merged = leaves.iter().filter(|(name, _)| !is_adapter(name)).map(|(name, weight)| {
        let module = name.trim_end_matches(".weight").to_owned();
        let part = |end: &str| leaves.get(&format!("{module}.lora_{end}.weight"));
        let sum = adapters.holds(&module).then(|| weight + part("B").matmul(part("A")) * adapters.scale());
        (name.clone(), sum.unwrap_or_else(|| weight.shallow_clone()))
    });
    let merged: Params = merged.collect();
    let divisor = counts(&answers()).answer_weight;
    let mut total = Tensor::from(0.0_f32);
    for item in answers() {
        let Item::Answer { prompt, pixels, ids, weights } = &item else { panic!("answers only") };
        let packed =
            Packed::new(&[PackedSample { prompt, completions: vec![ids] }], model.kind, model.device);
        let images = model.encode(&merged, &VisionBatch { grids: prompt.grids.clone() }, pixels);
        let targets = packed.targets();
        let hidden = run(&model.text_chain(&packed), &merged, &images).index_select(0, &targets.rows);
        let logprobs = head::chunk_logprobs(&hidden, merged.get(model.head_name()), &targets.ids);
        total -= (logprobs * Tensor::from_slice(weights).to_kind(Kind::Float) / divisor).sum(Kind::Float);
    }
    total.backward();
    let own = gradients(&stage, &answers());
    assert_eq!(own.len(), leaves.names().filter(|name| is_adapter(name)).count());
    for (name, gradient) in &own {
        let distance = distance(gradient, &leaves.get(name).grad());
        assert!(distance < 2e-5, "{name}: {distance:e}");
    }
}

#[test]
fn dropout_is_replayed_and_knows_no_micro_batches_and_no_copies() {
    let mut stage = lora(StageKind::Prpo);
    let plain = gradients(&stage, &rollouts());
    stage.lora.dropout = 0.3;
    let dropped = gradients(&stage, &rollouts());
    assert!(dropped.iter().any(|(name, gradient)| distance(gradient, &plain[name]) > 0.05));
    stage.parallel.recompute = Recompute::Blocks;
    assert_eq!(gradients(&stage, &rollouts()), dropped, "recomputed");
    stage.parallel.token_budget = 1;
    let copies: Vec<Item> = rollouts()
        .into_iter()
        .flat_map(|item| {
            let Item::Policy { prompt, pixels, completions } = item else { panic!("rollouts only") };
            completions.into_iter().map(move |completion| Item::Policy {
                prompt: prompt.clone(),
                pixels: pixels.copy(),
                completions: vec![completion],
            })
        })
        .collect();
    let mut own = trainer(&stage);
    let mut all = counts(&rollouts());
    // `sequence_mean` divides by completions: the same number of them.
    all.step.samples = counts(&copies).step.samples;
    prepare(&mut own, &copies, all, &LocalGroup::alone());
    for (name, gradient) in own.gradients() {
        assert!(distance(&gradient, &dropped[&name]) < 2e-5, "{name}");
    }
}

#[test]
fn another_step_drops_others() {
    let mut stage = lora(StageKind::Sft);
    (stage.lora.dropout, stage.optimizer.lr) = (0.3, 0.0);
    let mut trainer = trainer(&stage);
    let mut loss = || {
        let items = answers();
        let prepared = trainer.prepare(&items, counts(&items), 0.0, &LocalGroup::alone(), &mut || {});
        let loss = prepared.expect("a good step").loss;
        trainer.commit(false).expect("prepared");
        loss
    };
    assert_ne!(loss(), loss());
}

/// Runs `steps` on every rank of a world, item `i` on rank `i % world`; the weights, the same on all.
fn over_ranks(stage: &Stage, items: fn() -> Vec<Item>, world: usize, steps: usize) -> (Weights, f64) {
    let ranks = LocalGroup::world(world).into_iter().map(|group| {
        let stage = stage.clone();
        thread::spawn(move || {
            let mut trainer = trainer_at(&stage, start(&stage), &group);
            let (place, all) = (Place::in_group(&group), counts(&items()));
            let own = items().into_iter().enumerate().filter(|(i, _)| i % place.of == place.index);
            let own: Vec<Item> = own.map(|(_, item)| item).collect();
            let mut norm = 0.0;
            for _ in 0..steps {
                norm = prepare(&mut trainer, &own, all, &group).grad_norm;
                trainer.commit(false).expect("prepared");
            }
            let weights = trainer.weights(&group).expect("a good group");
            (weights.into_iter().map(|(name, t)| (name, t.copy())).collect::<Weights>(), norm)
        })
    });
    let mut ranks: Vec<_> =
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().expect("a good rank")).collect();
    assert!(ranks.iter().all(|(weights, norm)| *weights == ranks[0].0 && *norm == ranks[0].1));
    ranks.swap_remove(0)
}

#[test]
fn adapters_are_the_same_under_every_strategy_on_one_to_three_ranks() {
    let mut policy = lora(StageKind::Prpo);
    (policy.lora.dropout, policy.parallel.token_budget) = (0.2, 16);
    let mut base = policy.clone();
    base.objective.reference = Reference::Base;
    let mut language = lora(StageKind::Prpo);
    language.lora.targets = Targets::Pattern(r".*language_model\.layers\..*_proj".to_owned());
    language.parallel.recompute = Recompute::Blocks;
    for (number, stage) in [policy, base, language].into_iter().enumerate() {
        let (expected, norm) = over_ranks(&stage, rollouts, 1, 2);
        let start: Weights = start(&stage).into_iter().collect();
        for sharding in [Sharding::Replicate, Sharding::Optimizer, Sharding::Full] {
            for world in 1..=3 {
                let mut stage = stage.clone();
                stage.parallel.sharding = sharding;
                let (weights, own) = over_ranks(&stage, rollouts, world, 2);
                let (mut apart, mut moved) = (0.0, 0.0);
                for (name, weight) in &weights {
                    let sum = |t: Tensor| t.abs().sum(Kind::Double).double_value(&[]);
                    apart += sum(weight - &expected[name]);
                    moved += sum(&expected[name] - &start[name]);
                    assert!(is_adapter(name) || *weight == start[name], "{name} moved");
                }
                let error = apart / moved;
                assert!(error < 1e-3, "stage {number}, {sharding:?} on {world}: {error:e}");
                assert!(
                    (own / norm - 1.0).abs() < 1e-5,
                    "stage {number}, {sharding:?} on {world}: {own} {norm}"
                );
            }
        }
    }
}

#[test]
fn a_vision_stage_trains_the_towers_adapters_and_the_head() {
    let mut stage = lora(StageKind::Vision);
    let items = [distortion_item(1), distortion_item(2)];
    let own = gradients(&stage, &items);
    assert!(
        own.keys()
            .all(|name| is_adapter(name) && name.starts_with("visual.")
                || name.starts_with("distortion_head."))
    );
    stage.lora.targets = Targets::Names(vec!["q_proj".to_owned()]);
    let refused = Trainer::new(model(true), weights(&model(true).config), &stage, 1, Duration::from_secs(1));
    let said = refused.expect_err("blind").to_string();
    assert!(said.contains("nothing in the vision tower"), "{said}");
}

/// The mean KL of the first and of the second step.
fn kl(reference: Reference, weights: Params) -> [f64; 2] {
    let mut stage = lora(StageKind::Prpo);
    stage.objective.reference = reference;
    let mut trainer = trainer_at(&stage, weights, &LocalGroup::alone());
    let items = [policy_item(1, true, &[3, 2])];
    [(); 2].map(|()| step(&mut trainer, &items, &LocalGroup::alone()).metrics["kl"] / 5.0)
}

#[test]
fn initial_is_a_copy_of_the_adapters_and_base_is_without_them() {
    let stage = lora(StageKind::Prpo);
    let fresh = || weights(&model(true).config);
    let [first, second] = kl(Reference::Initial, start(&stage));
    assert!(first.abs() < 1e-9 && second > 1e-4, "{first} {second}");
    let [first, _] = kl(Reference::Base, start(&stage));
    assert!(first > 1e-3, "{first}");
    // Fresh adapters add nothing: both are the base.
    let (initial, base) = (kl(Reference::Initial, fresh()), kl(Reference::Base, fresh()));
    assert!(initial[0].abs() < 1e-9 && initial[1] > 0.0);
    assert!((initial[1] - base[1]).abs() < 1e-5 * base[1], "{initial:?} {base:?}");
}

/// Counts the values that are summed over ranks.
struct Counting<'a> {
    group: &'a LocalGroup,
    summed: Cell<usize>,
}

impl Group for Counting<'_> {
    fn rank(&self) -> usize {
        self.group.rank()
    }
    fn world_size(&self) -> usize {
        self.group.world_size()
    }
    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> collective::Result<Work> {
        if op == ReduceOp::Sum {
            self.summed.set(self.summed.get() + tensor.numel());
        }
        self.group.all_reduce(tensor, op)
    }
    fn all_gather_base(&self, output: &Tensor, input: &Tensor) -> collective::Result<Work> {
        self.group.all_gather_base(output, input)
    }
    fn reduce_scatter_base(&self, output: &Tensor, input: &Tensor, op: ReduceOp) -> collective::Result<Work> {
        self.summed.set(self.summed.get() + input.numel());
        self.group.reduce_scatter_base(output, input, op)
    }
    fn broadcast(&self, tensor: &Tensor, root: usize) -> collective::Result<Work> {
        self.group.broadcast(tensor, root)
    }
    fn shift(&self, output: &Tensor, input: &Tensor, by: usize) -> collective::Result<Work> {
        self.group.shift(output, input, by)
    }
    fn barrier(&self) -> collective::Result<Work> {
        self.group.barrier()
    }
    fn sent(&self) -> Sent {
        self.group.sent()
    }
    fn aborter(&self) -> Aborter {
        self.group.aborter()
    }
    fn shutdown(&self) {
        self.group.shutdown();
    }
}

#[test]
fn what_is_frozen_has_no_master_no_moments_no_gradient_and_no_sum() {
    let trains = |trainable: Trainable, name: &str| match trainable {
        Trainable::All => !is_adapter(name),
        Trainable::Language => !name.starts_with("visual."),
        Trainable::Vision => name.starts_with("visual."),
        Trainable::Lora => is_adapter(name),
    };
    for trainable in [Trainable::All, Trainable::Language, Trainable::Vision, Trainable::Lora] {
        for sharding in [Sharding::Replicate, Sharding::Optimizer, Sharding::Full] {
            let ranks = LocalGroup::world(2).into_iter().map(|group| {
                let mut stage = lora(StageKind::Prpo);
                (stage.trainable, stage.parallel.sharding) = (trainable, sharding);
                thread::spawn(move || {
                    let weights = match trainable {
                        Trainable::Lora => start(&stage),
                        _ => weights(&model(true).config),
                    };
                    let values = |weights: &Params, of: &dyn Fn(&str) -> bool| -> usize {
                        weights.iter().filter(|(name, _)| of(name)).map(|(_, t)| t.numel()).sum()
                    };
                    let count = values(&weights, &|name| trains(trainable, name));
                    let mut trainer = trainer_at(&stage, weights, &group);
                    let group = Counting { group: &group, summed: Cell::new(0) };
                    let items = rollouts();
                    prepare(&mut trainer, &items, counts(&items), &group);
                    for piece in trainer.sharding().pieces() {
                        let (part, name) = piece.name.split_once('.').expect("a part's name");
                        assert_eq!(part == "frozen", !trains(trainable, name), "{}", piece.name);
                    }
                    assert!(trainer.gradients().keys().all(|name| trains(trainable, name)));
                    // Blocks are padded to whole slices of 32 values; the embedding's is the largest share.
                    let summed = group.summed.get();
                    assert!(
                        summed >= count && summed < count + count / 2 + 32 * 200,
                        "{trainable:?} {sharding:?}: {summed} of {count}"
                    );
                    trainer.commit(false).expect("prepared");
                })
            });
            for rank in ranks.collect::<Vec<_>>() {
                rank.join().expect("a good rank");
            }
        }
    }
}

fn written(trainer: &mut Trainer, group: &dyn Group) -> (tempfile::TempDir, checkpoint::Files) {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("config.json"), r#"{"dtype":"float32"}"#).expect("writable");
    let to = folder.path().join("out");
    std::fs::create_dir(&to).expect("writable");
    let files = trainer.export(folder.path(), &to, Dtype::Float32, group).expect("written");
    (folder, files)
}

#[test]
fn an_export_is_merged_and_holds_the_adapters_as_peft_reads_them() {
    let stage = lora(StageKind::Sft);
    let mut trainer = trainer(&stage);
    step(&mut trainer, &answers(), &LocalGroup::alone());
    let weights = trainer.weights(&LocalGroup::alone()).expect("alone");
    let (folder, files) = written(&mut trainer, &LocalGroup::alone());
    assert!(
        files.contains_key("adapter/adapter_config.json")
            && files.contains_key("adapter/adapter_model.safetensors")
    );
    let out = folder.path().join("out");
    let config = model(true).config;
    let merged = WeightFiles::open(&out).expect("weights");
    let merged =
        Params::load(&config, &merged, Kind::Float, tch::Device::Cpu).expect("the model's weights alone");
    let adapters = adapters(&stage);
    for (name, weight) in weights.iter().filter(|(name, _)| !is_adapter(name)) {
        let expected = adapters.merged(name, weight, &weights).unwrap_or_else(|| weight.copy());
        assert_eq!(*merged.get(name), expected, "{name}");
    }
    let read =
        peft::read(&out.join(ADAPTER_FOLDER), &config, &adapters, &stage.lora).expect("its own format");
    assert!(read.iter().all(|(name, tensor)| tensor == weights.get(name)));
    let mut other = stage.lora.clone();
    other.rank = 4;
    let said = peft::read(&out.join(ADAPTER_FOLDER), &config, &adapters, &other).expect_err("another rank");
    assert!(said.contains("adapter_config.json: r is 3, expected model.lora.rank 4"), "{said}");
}

#[test]
fn a_saved_state_of_adapters_goes_on_bit_for_bit() {
    for sharding in [Sharding::Replicate, Sharding::Full] {
        let mut stage = lora(StageKind::Sft);
        (stage.parallel.sharding, stage.lora.dropout) = (sharding, 0.2);
        let alone = LocalGroup::alone();
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut first = trainer(&stage);
        step(&mut first, &answers(), &alone);
        first.save_state(folder.path()).expect("written");
        // Other adapters, until the state is taken.
        let mut second = trainer_at(&stage, weights(&model(true).config), &alone);
        second.load_state(folder.path()).expect("the same stage");
        assert_eq!(first.digest(), second.digest());
        step(&mut first, &answers(), &alone);
        step(&mut second, &answers(), &alone);
        assert_eq!(first.digest(), second.digest());
    }
}

#[test]
fn a_next_stage_goes_on_with_the_adapters_or_takes_them_into_the_weights() {
    let stage = lora(StageKind::Sft);
    let alone = LocalGroup::alone();
    let mut trainer = trainer(&stage);
    step(&mut trainer, &answers(), &alone);
    let before: Weights = trainer.weights(&alone).expect("alone").into_iter().collect();
    trainer.begin_stage(&stage, None, &alone).expect("the same adapters");
    let same: Weights = trainer.weights(&alone).expect("alone").into_iter().collect();
    assert_eq!(same, before);

    let apart: Params = before.iter().map(|(name, t)| (name.clone(), t.copy())).collect();
    let mut other = stage.clone();
    other.lora.rank = 2;
    trainer.begin_stage(&other, None, &alone).expect("others");
    let merged = trainer.weights(&alone).expect("alone");
    let adapters = adapters(&stage);
    for (name, weight) in merged.iter().filter(|(name, _)| !is_adapter(name)) {
        assert_eq!(
            *weight,
            adapters.merged(name, &before[name], &apart).unwrap_or_else(|| before[name].copy())
        );
    }
    assert!(merged.iter().any(|(name, t)| name.ends_with("lora_A.weight") && t.size()[0] == 2));
    trainer.begin_stage(&crate::testing::stage(StageKind::Sft), None, &alone).expect("everything");
    assert!(trainer.params().names().all(|name| !is_adapter(name)));
    assert!(trainer.model().adapters.is_empty());
}

#[test]
fn weights_with_adapters_of_others_are_refused() {
    let mut stage = lora(StageKind::Sft);
    let weights = start(&stage);
    stage.lora.rank = 2;
    let model: Qwen = model(true);
    let refused = Trainer::new(model, weights, &stage, 1, Duration::from_secs(1));
    assert!(refused.expect_err("another rank").to_string().contains("not those of model.lora"));
}

#[test]
fn adapters_in_bf16_learn_under_every_strategy() {
    for sharding in [Sharding::Replicate, Sharding::Optimizer, Sharding::Full] {
        let mut stage = lora(StageKind::Sft);
        stage.parallel.sharding = sharding;
        let mut model = model(true);
        (model.kind, model.weights) = (Kind::BFloat16, Kind::BFloat16);
        let (weights, deadline) = (weights(&model.config), Duration::from_secs(60));
        let mut trainer = Trainer::new(model, weights, &stage, 1, deadline).expect("fits");
        let items = answers();
        let mut losses = Vec::new();
        for _ in 0..30 {
            let group = LocalGroup::alone();
            let prepared = trainer.prepare(&items, counts(&items), 5e-3, &group, &mut || {});
            losses.push(prepared.expect("a good step").loss);
            trainer.commit(false).expect("prepared");
        }
        assert!(losses[29] < 0.8 * losses[0], "{sharding:?}: {losses:?}");
        trainer.gather(&LocalGroup::alone()).expect("alone");
        assert!(trainer.params().iter().all(|(_, tensor)| tensor.kind() == Kind::BFloat16));
    }
}
