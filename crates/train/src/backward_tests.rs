//! The gradient of the block-wise engine against libtorch's own over the whole graph.

use std::collections::BTreeMap;

use collective::LocalGroup;
use model::{Packed, PackedSample, Params, VisionBatch, head, run};
use settings::{Recompute, StageKind, Trainable};
use tch::{Kind, Tensor};

use crate::testing::{answer_item, counts, distance, model, prepare, stage, trainer, weights};
use crate::{Item, Prepared};

/// Gradients and loss of answers through one graph, every parameter a leaf.
fn whole_graph(items: &[Item]) -> (BTreeMap<String, Tensor>, f64) {
    let model = model(true);
    let leaves: Params =
        weights(&model.config).into_iter().map(|(n, t)| (n, t.set_requires_grad(true))).collect();
    let mut total = Tensor::zeros([0_i64; 0], (Kind::Float, model.device));
    let divisor = counts(items).answer_weight;
    for item in items {
        let Item::Answer { prompt, pixels, ids, weights } = item else { panic!("answers only") };
        let packed =
            Packed::new(&[PackedSample { prompt, completions: vec![ids] }], model.kind, model.device);
        let batch = VisionBatch { grids: prompt.grids.clone() };
        let images = model.encode(&leaves, &batch, pixels);
        let targets = packed.targets();
        let hidden = run(&model.text_chain(&packed), &leaves, &images).index_select(0, &targets.rows);
        let logprobs = head::chunk_logprobs(&hidden, leaves.get(model.head_name()), &targets.ids);
        total -= (logprobs * Tensor::from_slice(weights).to_kind(Kind::Float) / divisor).sum(Kind::Float);
    }
    total.backward();
    let gradients = leaves.iter().map(|(name, leaf)| (name.clone(), leaf.grad())).collect();
    (gradients, total.double_value(&[]))
}

fn by_links(
    items: &[Item],
    recompute: Recompute,
    budget: u32,
    trainable: Trainable,
) -> (BTreeMap<String, Tensor>, Prepared) {
    let mut stage = stage(StageKind::Sft);
    stage.parallel.recompute = recompute;
    stage.parallel.token_budget = budget;
    stage.trainable = trainable;
    let mut trainer = trainer(&stage);
    let prepared = prepare(&mut trainer, items, counts(items), &LocalGroup::alone());
    let gradients = trainer.gradients();
    (gradients.into_iter().map(|(n, g)| (n, g.copy())).collect(), prepared)
}

fn items() -> Vec<Item> {
    vec![answer_item(1, true), answer_item(2, false), answer_item(3, true)]
}

#[test]
fn the_gradient_by_links_is_that_of_the_whole_graph() {
    let (expected, loss) = whole_graph(&items());
    let (gradients, prepared) = by_links(&items(), Recompute::None, 1 << 14, Trainable::All);
    assert_eq!(gradients.len(), expected.len());
    for (name, gradient) in &gradients {
        let distance = distance(gradient, &expected[name]);
        assert!(distance < 5e-6, "{name}: {distance:e}");
    }
    assert!((prepared.loss - loss).abs() < 1e-6 * loss, "{} {loss}", prepared.loss);
    let norm: f64 =
        expected.values().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
    assert!((prepared.grad_norm / norm - 1.0).abs() < 1e-6, "{} {norm}", prepared.grad_norm);
}

#[test]
fn recomputing_blocks_changes_no_bit() {
    let (kept, _) = by_links(&items(), Recompute::None, 1 << 14, Trainable::All);
    let (recomputed, _) = by_links(&items(), Recompute::Blocks, 1 << 14, Trainable::All);
    for (name, gradient) in &kept {
        assert_eq!(gradient, &recomputed[name], "{name}");
    }
}

#[test]
fn the_gradient_does_not_depend_on_how_micro_batches_are_cut() {
    let (whole, _) = by_links(&items(), Recompute::None, 1 << 14, Trainable::All);
    let (cut, _) = by_links(&items(), Recompute::None, 1, Trainable::All);
    for (name, gradient) in &whole {
        assert!(distance(&cut[name], gradient) < 5e-6, "{name}");
    }
}

#[test]
fn frozen_parts_have_no_gradient_and_the_rest_has_the_same() {
    let (all, _) = by_links(&items(), Recompute::None, 1 << 14, Trainable::All);
    for trainable in [Trainable::Language, Trainable::Vision] {
        let (part, _) = by_links(&items(), Recompute::None, 1 << 14, trainable);
        assert!(!part.is_empty());
        for (name, gradient) in &part {
            assert_eq!(name.starts_with("visual."), trainable == Trainable::Vision, "{name}");
            assert!(distance(gradient, &all[name]) < 1e-6, "{name}");
        }
    }
}
