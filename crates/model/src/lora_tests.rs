//! Adapters against merged weights, in every way that the model is run.

use std::collections::BTreeMap;

use settings::{Lora, Targets};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::testing::{random_params, tiny_config};

fn lora(targets: Targets) -> Lora {
    Lora { rank: 3, alpha: 6.0, targets, ..Lora::default() }
}

fn chosen(names: &[&str]) -> Result<Adapters, String> {
    let names = names.iter().map(ToString::to_string).collect();
    Adapters::choose(&tiny_config(), &lora(Targets::Names(names)))
}

#[test]
fn all_linear_is_every_matrix_but_embedding_and_head() {
    let mut config = tiny_config();
    config.tied = false;
    let adapters = Adapters::choose(&config, &lora(Targets::AllLinear)).expect("linear maps");
    let shapes = expected(&config);
    let matrices =
        shapes.iter().filter(|(name, shape)| shape.len() == 2 && *name != EMBEDDING && *name != HEAD);
    assert!(matrices.clone().all(|(name, _)| adapters.holds(name.trim_end_matches(".weight"))));
    assert_eq!(adapters.modules.len(), matrices.count());
}

#[test]
fn a_name_reaches_vision_and_language_as_in_peft() {
    let adapters = chosen(&["up_proj", "patch_embed.proj"]).expect("linear maps");
    let modules: Vec<&str> = adapters.modules.iter().map(String::as_str).collect();
    let expected = [
        "model.layers.0.mlp.up_proj",
        "model.layers.1.mlp.up_proj",
        "visual.blocks.0.mlp.up_proj",
        "visual.blocks.1.mlp.up_proj",
        "visual.patch_embed.proj",
    ];
    assert_eq!(modules, expected);
    let shapes = adapters.shapes(&tiny_config(), 3);
    assert_eq!(shapes["visual.patch_embed.proj.lora_A.weight"], [3, 3, 2, 2, 2]);
    assert_eq!(shapes["visual.patch_embed.proj.lora_B.weight"], [16, 3, 1, 1, 1]);
    assert_eq!(shapes["model.layers.0.mlp.up_proj.lora_B.weight"], [48, 3]);
}

#[test]
fn targets_that_are_nothing_or_no_linear_map_are_refused() {
    for (names, said) in [
        (["q_porj"], "match no module"),
        (["embed_tokens"], "match model.language_model.embed_tokens"),
        (["norm1"], "match model.visual.blocks.0.norm1"),
    ] {
        let error = chosen(&names).expect_err("no linear map");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn fresh_adapters_are_drawn_within_the_bound_and_change_nothing() {
    let adapters = chosen(&["q_proj", "down_proj"]).expect("linear maps");
    let fresh = adapters.fresh(&tiny_config(), 8, 5);
    let a = fresh.get("model.layers.0.mlp.down_proj.lora_A.weight");
    let bound = 1.0 / 48_f64.sqrt();
    assert!(a.abs().max().double_value(&[]) <= bound);
    // A uniform draw's deviation is its bound over √3.
    assert!((a.std(false).double_value(&[]) * 3_f64.sqrt() / bound - 1.0).abs() < 0.1);
    assert!(
        fresh
            .iter()
            .filter(|(name, _)| name.ends_with(B))
            .all(|(_, b)| b.count_nonzero(None::<i64>).int64_value(&[]) == 0)
    );
    let other = adapters.fresh(&tiny_config(), 8, 6);
    assert_ne!(a, other.get("model.layers.0.mlp.down_proj.lora_A.weight"));
    assert_eq!(a, adapters.fresh(&tiny_config(), 8, 5).get("model.layers.0.mlp.down_proj.lora_A.weight"));
}

/// Weights with adapters that do something, and the same merged.
pub(crate) fn both(adapters: &Adapters, kind: Kind) -> (Params, Params) {
    let config = tiny_config();
    let base = random_params(&config, 3, kind);
    let mut drawn: BTreeMap<String, Tensor> = adapters.fresh(&config, 3, 9).into_iter().collect();
    for (name, tensor) in &mut drawn {
        if name.ends_with(B) {
            *tensor = Tensor::randn(tensor.size(), (Kind::Float, Device::Cpu)) * 0.1;
        }
        *tensor = tensor.to_kind(kind);
    }
    let drawn: Params = drawn.into_iter().collect();
    let merged = base.iter().map(|(name, weight)| {
        (
            name.clone(),
            adapters.merged(name, weight, &drawn).map_or(weight.copy(), |merged| merged.to_kind(kind)),
        )
    });
    let merged: Params = merged.collect();
    let beside = base.into_iter().chain(drawn).collect();
    (beside, merged)
}
