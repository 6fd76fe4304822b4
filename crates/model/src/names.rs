//! The names and shapes of every weight, and the namings that files use for them.
//!
//! Canonical are the Hub's names: `model.layers…`, `model.embed_tokens.weight`, `model.norm.weight`,
//! `lm_head.weight`, `visual.…`. Files that transformers 5 writes from memory may say `model.language_model.…` and
//! `model.visual.…` instead.

use std::collections::BTreeMap;

use crate::config::Config;

/// The token embedding; the head too where they are tied.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The head of an untied model.
pub const HEAD: &str = "lm_head.weight";

/// The canonical name of a tensor that a file calls `published`.
#[must_use]
pub fn canonical(published: &str) -> String {
    let text =
        published.strip_prefix("model.language_model.").or(published.strip_prefix("language_model.model."));
    match (text, published.strip_prefix("model.visual.")) {
        (Some(rest), _) => format!("model.{rest}"),
        (_, Some(rest)) => format!("visual.{rest}"),
        _ => published.to_owned(),
    }
}

/// The name that transformers 5 gives what is canonically called `name`.
#[must_use]
pub fn in_transformers(name: &str) -> String {
    match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if name.starts_with("visual.") => format!("model.{name}"),
        None => name.to_owned(),
    }
}

/// Canonical name and shape of every weight of a model.
#[must_use]
pub fn expected(config: &Config) -> BTreeMap<String, Vec<i64>> {
    let mut shapes = BTreeMap::new();
    let text = &config.text;
    shapes.insert(EMBEDDING.to_owned(), vec![text.vocab, text.hidden]);
    if !config.tied {
        shapes.insert(HEAD.to_owned(), vec![text.vocab, text.hidden]);
    }
    shapes.insert("model.norm.weight".to_owned(), vec![text.hidden]);
    for layer in 0..text.layers {
        insert(&mut shapes, &format!("model.layers.{layer}."), text_layer(config));
    }
    let vision = &config.vision;
    let patch = vec![vision.hidden, vision.channels, vision.temporal_patch, vision.patch, vision.patch];
    shapes.insert("visual.patch_embed.proj.weight".to_owned(), patch);
    for block in 0..vision.depth {
        insert(&mut shapes, &format!("visual.blocks.{block}."), vision_block(config));
    }
    insert(&mut shapes, "visual.merger.", merger(config));
    shapes
}

/// Names within a layer, after its prefix, with their shapes.
pub(crate) type Shapes = Vec<(&'static str, Vec<i64>)>;

fn insert(shapes: &mut BTreeMap<String, Vec<i64>>, prefix: &str, of: Shapes) {
    shapes.extend(of.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)));
}

pub(crate) fn text_layer(config: &Config) -> Shapes {
    let text = &config.text;
    let (hidden, inner, kv) = (text.hidden, text.intermediate, text.kv_heads * text.head_dim());
    vec![
        ("input_layernorm.weight", vec![hidden]),
        ("mlp.down_proj.weight", vec![hidden, inner]),
        ("mlp.gate_proj.weight", vec![inner, hidden]),
        ("mlp.up_proj.weight", vec![inner, hidden]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("self_attn.k_proj.bias", vec![kv]),
        ("self_attn.k_proj.weight", vec![kv, hidden]),
        ("self_attn.o_proj.weight", vec![hidden, hidden]),
        ("self_attn.q_proj.bias", vec![hidden]),
        ("self_attn.q_proj.weight", vec![hidden, hidden]),
        ("self_attn.v_proj.bias", vec![kv]),
        ("self_attn.v_proj.weight", vec![kv, hidden]),
    ]
}

pub(crate) fn vision_block(config: &Config) -> Shapes {
    let (hidden, inner) = (config.vision.hidden, config.vision.intermediate);
    vec![
        ("attn.proj.bias", vec![hidden]),
        ("attn.proj.weight", vec![hidden, hidden]),
        ("attn.qkv.bias", vec![3 * hidden]),
        ("attn.qkv.weight", vec![3 * hidden, hidden]),
        ("mlp.down_proj.bias", vec![hidden]),
        ("mlp.down_proj.weight", vec![hidden, inner]),
        ("mlp.gate_proj.bias", vec![inner]),
        ("mlp.gate_proj.weight", vec![inner, hidden]),
        ("mlp.up_proj.bias", vec![inner]),
        ("mlp.up_proj.weight", vec![inner, hidden]),
        ("norm1.weight", vec![hidden]),
        ("norm2.weight", vec![hidden]),
    ]
}

pub(crate) fn merger(config: &Config) -> Shapes {
    let vision = &config.vision;
    let merged = vision.hidden * vision.merge * vision.merge;
    vec![
        ("ln_q.weight", vec![vision.hidden]),
        ("mlp.0.bias", vec![merged]),
        ("mlp.0.weight", vec![merged, merged]),
        ("mlp.2.bias", vec![vision.out_hidden]),
        ("mlp.2.weight", vec![vision.out_hidden, merged]),
    ]
}

/// Names of a layer's weights with `prefix` before them.
pub(crate) fn under(prefix: &str, shapes: &Shapes) -> Vec<String> {
    shapes.iter().map(|(name, _)| format!("{prefix}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_naming_has_one_canonical_form() {
        for (published, name) in [
            ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("model.language_model.embed_tokens.weight", EMBEDDING),
            ("model.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
            ("visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
            ("lm_head.weight", HEAD),
        ] {
            assert_eq!(canonical(published), name);
            assert_eq!(canonical(&in_transformers(name)), name);
        }
    }
}
