//! Steps over one and two ranks, stages, and what is saved.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use collective::LocalGroup;
use model::{Params, Qwen};
use settings::{Dtype, LossForm, Stage, StageKind, Trainable};
use tch::{Kind, Tensor};

use crate::testing::{
    answer_item, counts, distance, distortion_item, policy_item, prepare, stage, trainer, weights,
};
use crate::{Counts, Error, Item, Prepared, Trainer};

type Gradients = BTreeMap<String, Tensor>;

/// Prepares one step on one rank, without committing it.
fn alone(stage: &Stage, items: &[Item]) -> (Gradients, Prepared) {
    let mut trainer = trainer(stage);
    let prepared = prepare(&mut trainer, items, counts(items), &LocalGroup::alone());
    (trainer.gradients(), prepared)
}

/// The same over one rank a list; every rank's gradients, and digests after the commit.
fn over_ranks(stage: &Stage, shares: Vec<Vec<Item>>) -> Vec<(Gradients, Prepared, String)> {
    let mut total = Counts::default();
    for share in &shares {
        let counts = counts(share);
        total.step += counts.step;
        total.answer_weight += counts.answer_weight;
    }
    let groups = LocalGroup::world(shares.len());
    let ranks = groups.into_iter().zip(shares).map(|(group, share)| {
        let stage = stage.clone();
        thread::spawn(move || {
            let mut trainer = trainer(&stage);
            let prepared = prepare(&mut trainer, &share, total, &group);
            let gradients = trainer.gradients().into_iter().map(|(n, g)| (n, g.copy())).collect();
            trainer.commit(false).expect("prepared");
            (gradients, prepared, trainer.digest())
        })
    });
    ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().expect("a good rank")).collect()
}

fn assert_same(gradients: &Gradients, expected: &Gradients, tolerance: f64) {
    assert_eq!(gradients.len(), expected.len());
    for (name, gradient) in gradients {
        let distance = distance(gradient, &expected[name]);
        assert!(distance <= tolerance, "{name}: {distance:e}");
    }
}

#[test]
fn a_shared_prompt_gives_the_gradient_of_separate_copies() {
    for form in [LossForm::SequenceMean, LossForm::TokenMean, LossForm::FixedLength] {
        let mut stage = stage(StageKind::Prpo);
        stage.objective.loss = form;
        let shared = policy_item(1, true, &[3, 1, 5]);
        let Item::Policy { prompt, pixels, completions } = &shared else { panic!("a policy item") };
        let copy = |completion: &crate::Completion| Item::Policy {
            prompt: prompt.clone(),
            pixels: pixels.copy(),
            completions: vec![completion.clone()],
        };
        let copies: Vec<Item> = completions.iter().map(copy).collect();
        let (packed, a) = alone(&stage, std::slice::from_ref(&shared));
        let (separate, b) = alone(&stage, &copies);
        assert_same(&packed, &separate, 5e-6);
        assert!((a.loss - b.loss).abs() < 1e-6, "{} {}", a.loss, b.loss);
    }
}

#[test]
fn two_ranks_give_the_gradient_of_one_and_the_same_weights_on_both() {
    let stage = stage(StageKind::Prpo);
    let items =
        || [policy_item(1, true, &[3, 2]), policy_item(2, false, &[4]), policy_item(3, true, &[1, 2, 3])];
    let (expected, one) = alone(&stage, &items());
    let [a, b, c] = items();
    let ranks = over_ranks(&stage, vec![vec![a, c], vec![b]]);
    for (gradients, _, _) in &ranks {
        assert_same(gradients, &expected, 1e-6);
    }
    assert!((ranks[0].1.loss + ranks[1].1.loss - one.loss).abs() < 1e-6);
    assert!((ranks[0].1.grad_norm / one.grad_norm - 1.0).abs() < 1e-6);
    assert_eq!(ranks[0].1.grad_norm, ranks[1].1.grad_norm);
    assert_eq!(ranks[0].2, ranks[1].2);
}

#[test]
fn a_rank_without_items_takes_part_and_changes_nothing() {
    let stage = stage(StageKind::Sft);
    let (expected, _) = alone(&stage, &[answer_item(1, true)]);
    let ranks = over_ranks(&stage, vec![vec![], vec![answer_item(1, true)]]);
    for (gradients, _, _) in &ranks {
        assert_same(gradients, &expected, 0.0);
    }
    assert_eq!(ranks[0].1.loss, 0.0);
    assert_eq!(ranks[0].2, ranks[1].2);
}

#[test]
fn a_last_micro_batch_without_a_picture_does_not_close_the_vision_blocks_early() {
    let mut stage = stage(StageKind::Sft);
    stage.parallel.token_budget = 1;
    let (expected, _) = alone(&stage, &[answer_item(1, true), answer_item(2, false), answer_item(3, true)]);
    let ranks = over_ranks(
        &stage,
        vec![vec![answer_item(1, true), answer_item(2, false)], vec![answer_item(3, true)]],
    );
    assert_same(&ranks[0].0, &expected, 1e-6);
    assert_eq!(ranks[0].2, ranks[1].2);
}

#[test]
fn a_vision_stage_learns_its_labels_and_leaves_the_language_model_alone() {
    let mut stage = stage(StageKind::Vision);
    stage.optimizer.lr = 1e-2;
    let mut trainer = trainer(&stage);
    let items = || [distortion_item(1), distortion_item(2), distortion_item(3)];
    let mut losses = Vec::new();
    for _ in 0..20 {
        let items = items();
        let prepared = trainer
            .prepare(&items, counts(&items), 1e-2, &LocalGroup::alone(), &mut || {})
            .expect("a good step");
        trainer.commit(false).expect("prepared");
        losses.push(prepared.loss);
    }
    assert!(losses[19] < 0.2 * losses[0], "{losses:?}");
    assert!(
        trainer.gradients().keys().all(|n| n.starts_with("visual.") || n.starts_with("distortion_head."))
    );
    let Item::Distortion { picture, pixels, .. } = distortion_item(2) else { panic!("a distortion item") };
    let answer = trainer.predict(&picture, &pixels)[0];
    assert_eq!((answer.kind, answer.level), (2, 3));
    assert!((answer.quality - 2.5).abs() < 0.5, "{answer:?}");
}

#[test]
fn training_a_part_leaves_the_digest_of_the_rest() {
    let mut stage = stage(StageKind::Sft);
    stage.trainable = Trainable::Language;
    let mut trainer = trainer(&stage);
    let before = frozen(&trainer);
    let whole = trainer.digest();
    let items = [answer_item(1, true)];
    prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone());
    trainer.commit(false).expect("prepared");
    assert_ne!(trainer.digest(), whole);
    for (name, tensor) in frozen(&trainer) {
        assert_eq!(tensor, before[&name], "{name}");
    }
}

fn frozen(trainer: &Trainer) -> Gradients {
    let params = trainer.params().iter();
    params.filter(|(n, _)| n.starts_with("visual.")).map(|(n, t)| (n.clone(), t.copy())).collect()
}

#[test]
fn weights_held_in_bf16_are_computed_with_in_f32_where_the_model_says_so() {
    let stage = stage(StageKind::Prpo);
    let items = [policy_item(1, true, &[3, 2]), policy_item(2, false, &[4])];
    let gradients = |weights: Params, held: Kind| {
        let model = Qwen { weights: held, ..crate::testing::model(true) };
        let mut trainer =
            Trainer::new(model, weights, &stage, 1, Duration::from_secs(20)).expect("a whole model");
        assert!(trainer.params().iter().all(|(_, tensor)| tensor.kind() == held));
        prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone());
        trainer.gradients()
    };
    let exact = weights(&crate::testing::config(true));
    let rounded = exact.as_kind(Kind::BFloat16).as_kind(Kind::Float);
    let (got, expected) = (gradients(exact, Kind::BFloat16), gradients(rounded, Kind::Float));
    assert_eq!(got.len(), expected.len());
    for (name, gradient) in &got {
        assert_eq!(gradient, &expected[name], "{name}");
    }
}

#[test]
fn masters_keep_steps_that_the_compute_type_cannot_show() {
    let stage = stage(StageKind::Sft);
    let mut model = crate::testing::model(true);
    (model.kind, model.weights) = (Kind::BFloat16, Kind::BFloat16);
    let weights = weights(&model.config);
    let mut trainer =
        Trainer::new(model, weights, &stage, 1, Duration::from_secs(20)).expect("a whole model");
    let norm = |trainer: &Trainer| trainer.params().get("model.norm.weight").to_kind(Kind::Float);
    let (before, digest) = (norm(&trainer), trainer.digest());
    let items = [answer_item(1, true)];
    let step = |trainer: &mut Trainer| {
        trainer.prepare(&items, counts(&items), 1e-4, &LocalGroup::alone(), &mut || {}).expect("a good step");
        trainer.commit(false).expect("prepared");
    };
    step(&mut trainer);
    assert_ne!(trainer.digest(), digest);
    assert!(distance(&norm(&trainer), &before) < 4e-3);
    for _ in 0..99 {
        step(&mut trainer);
    }
    let moved = (norm(&trainer) - before).abs().mean(Kind::Float).double_value(&[]);
    assert!(moved > 2e-3, "a hundred steps of 1e-4 moved the norm by {moved}");
}

#[test]
fn a_step_that_is_not_finite_is_said_and_a_skipped_one_changes_nothing() {
    let stage = stage(StageKind::Prpo);
    let mut trainer = trainer(&stage);
    let before = trainer.digest();
    let mut item = policy_item(1, true, &[3]);
    if let Item::Policy { completions, .. } = &mut item {
        completions[0].old_logprobs = vec![-1e30, -1.0, -1.0];
        completions[0].advantage = -1.0;
    }
    let items = [item];
    let prepared = prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone());
    assert!(!prepared.finite);
    trainer.commit(true).expect("prepared");
    assert_eq!(trainer.digest(), before);
    assert!(matches!(trainer.commit(false), Err(Error::NotPrepared)));
}

#[test]
fn an_item_of_another_stage_or_outside_the_vocabulary_is_refused_by_its_number() {
    let mut trainer = trainer(&stage(StageKind::Sft));
    let mut bad = answer_item(1, false);
    if let Item::Answer { ids, .. } = &mut bad {
        ids[1] = 96;
    }
    for (item, said) in [(policy_item(1, true, &[2]), "sft stage"), (bad, "vocabulary of 96")] {
        let items = [answer_item(2, true), item];
        let counts = counts(&items);
        let error =
            trainer.prepare(&items, counts, 1e-3, &LocalGroup::alone(), &mut || {}).expect_err("bad item");
        assert!(error.to_string().contains("item 1") && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn the_reference_is_the_stages_start_so_its_divergence_grows_from_nothing() {
    let mut trainer = trainer(&stage(StageKind::Prpo));
    let mut divergence = Vec::new();
    for _ in 0..2 {
        let items = [policy_item(1, true, &[3, 4])];
        let prepared = prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone());
        divergence.push(prepared.metrics["kl"]);
        trainer.commit(false).expect("prepared");
    }
    assert_eq!(divergence[0], 0.0);
    assert!(divergence[1] > 0.0);
}

/// A source checkpoint: configuration and a tokenizer, no weights.
fn source() -> tempfile::TempDir {
    let source = tempfile::tempdir().expect("temporary folder");
    std::fs::write(source.path().join("config.json"), r#"{"dtype":"bfloat16"}"#).expect("writable");
    std::fs::write(source.path().join("tokenizer.json"), "{}").expect("writable");
    source
}

#[test]
fn an_export_is_reloaded_bit_for_bit() {
    let mut trainer = trainer(&stage(StageKind::Vision));
    let config = trainer.model().config.clone();
    let (source, folder) = (source(), tempfile::tempdir().expect("temporary folder"));
    for (dtype, kind) in [(Dtype::Float32, Kind::Float), (Dtype::Bfloat16, Kind::BFloat16)] {
        trainer.export(source.path(), folder.path(), dtype, &LocalGroup::alone()).expect("written");
        let files = checkpoint::weights::WeightFiles::open(folder.path()).expect("readable");
        let read =
            Params::load(&config, &files, Kind::Float, tch::Device::Cpu).expect("whole, without the head");
        for (name, tensor) in &weights(&config) {
            assert_eq!(read.get(name), &tensor.to_kind(kind).to_kind(Kind::Float), "{name}");
        }
    }
}

#[test]
fn a_saved_state_goes_on_bit_for_bit() {
    let stage = stage(StageKind::Sft);
    let step = |trainer: &mut Trainer, seed| {
        let items = [answer_item(seed, true)];
        prepare(trainer, &items, counts(&items), &LocalGroup::alone());
        trainer.commit(false).expect("prepared");
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut first = trainer(&stage);
    step(&mut first, 1);
    step(&mut first, 2);
    first.save_state(folder.path()).expect("written");
    step(&mut first, 3);
    let mut second = trainer(&stage);
    second.load_state(folder.path()).expect("readable");
    step(&mut second, 3);
    assert_eq!(first.digest(), second.digest());

    let mut other = stage.clone();
    other.trainable = Trainable::Language;
    let error = trainer(&other).load_state(folder.path()).expect_err("another stage's state");
    assert!(error.to_string().contains("another model or stage"), "{error}");
    let mut other = stage.clone();
    other.optimizer.betas = [0.9, 0.95];
    let error = trainer(&other).load_state(folder.path()).expect_err("another optimizer's state").to_string();
    assert!(
        error.contains("optimizer.betas was [0.9,0.999]") && error.contains("it is [0.9,0.95]"),
        "{error}"
    );
    // What is set anew every step may change.
    let mut other = stage.clone();
    (other.optimizer.lr, other.optimizer.max_grad_norm) = (1.0, 0.0);
    trainer(&other).load_state(folder.path()).expect("the same moments");
}

#[test]
fn a_stage_goes_on_with_the_weights_in_memory_and_fresh_moments() {
    let mut vision = stage(StageKind::Vision);
    vision.name = "see".to_owned();
    let mut trainer = trainer(&vision);
    let items = [distortion_item(1)];
    prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone());
    trainer.commit(false).expect("prepared");
    let trained = trainer.params().get("visual.merger.mlp.2.weight").copy();
    trainer.begin_stage(&stage(StageKind::Sft), None, &LocalGroup::alone()).expect("the same model");
    assert_eq!(trainer.params().get("visual.merger.mlp.2.weight"), &trained);
    assert!(trainer.params().names().all(|name| !name.starts_with("distortion_head.")));
    let items = [answer_item(1, true)];
    assert!(prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone()).finite);
}
