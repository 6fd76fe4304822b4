//! Parameters grouped in blocks: what is gathered, reduced and stepped together.
//!
//! A block is one flat buffer. Its order is the order of the forward pass, so that the backward pass
//! finishes blocks from the last to the first.

use std::collections::BTreeMap;
use std::fmt;

use tch::Tensor;

use crate::Error;

/// Parameters begin at multiples of this many elements, so that each is aligned as a tensor of its own is
/// (64 bytes in bf16): products of unaligned operands may take other code and round otherwise.
pub(crate) const ALIGNMENT: i64 = 32;

/// A block, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockId {
    /// The patch filters.
    VisionPatches,
    /// A block of the vision tower.
    Vision(u32),
    /// From patches to the language model's width.
    Merger,
    /// The throw-away head of a vision stage.
    Distortion,
    /// The token embedding; holds the head too where they are tied.
    Embedding,
    /// A decoder layer.
    Layer(u32),
    /// The last norm, and the head where it is a weight of its own.
    Head,
}

impl BlockId {
    /// The block of a parameter, by its published name (`visual.…`, `model.…`, `lm_head.…`), also under the
    /// names that transformers 5 writes (`model.visual.…`, `model.language_model.…`).
    ///
    /// # Errors
    /// If the name belongs to no part of Qwen2.5-VL.
    pub fn of(name: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownParameter { name: name.to_owned() };
        let mut parts = name.split('.').filter(|part| !matches!(*part, "model" | "language_model"));
        let (first, second) = (parts.next(), parts.next());
        let number = |part: Option<&str>| part.and_then(|n| n.parse().ok()).ok_or_else(unknown);
        match (first, second) {
            (Some("visual"), Some("patch_embed")) => Ok(Self::VisionPatches),
            (Some("visual"), Some("blocks")) => Ok(Self::Vision(number(parts.next())?)),
            (Some("visual"), Some("merger")) => Ok(Self::Merger),
            (Some("distortion_head"), Some(_)) => Ok(Self::Distortion),
            (Some("embed_tokens"), Some(_)) => Ok(Self::Embedding),
            (Some("layers"), n) => Ok(Self::Layer(number(n)?)),
            (Some("norm" | "lm_head"), Some(_)) => Ok(Self::Head),
            _ => Err(unknown()),
        }
    }

    /// Whether the block belongs to the vision tower with its merger.
    #[must_use]
    pub fn is_vision(self) -> bool {
        self <= Self::Merger
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VisionPatches => f.write_str("vision patches"),
            Self::Vision(n) => write!(f, "vision block {n}"),
            Self::Merger => f.write_str("merger"),
            Self::Distortion => f.write_str("distortion head"),
            Self::Embedding => f.write_str("embedding"),
            Self::Layer(n) => write!(f, "layer {n}"),
            Self::Head => f.write_str("head"),
        }
    }
}

/// A parameter's place in its block's flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Published name.
    pub(crate) name: String,
    /// Extent of each dimension.
    pub(crate) shape: Vec<i64>,
    /// First element in the flat buffer.
    pub(crate) start: i64,
    /// Number of elements.
    pub(crate) len: i64,
}

impl Entry {
    /// The parameter in its block's flat buffer, in its own shape.
    pub(crate) fn view(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, self.start, self.len).view(self.shape.as_slice())
    }
}

/// A block's parameters, sorted by name, and the length of its flat buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// In the order of their names and places.
    pub(crate) entries: Vec<Entry>,
    /// Elements in the flat buffer, gaps included.
    pub(crate) len: i64,
}

/// Groups parameters (name and shape, each once) into blocks.
///
/// # Errors
/// If a name belongs to no block.
pub(crate) fn layout<'a>(
    parameters: impl IntoIterator<Item = (&'a str, Vec<i64>)>,
) -> Result<BTreeMap<BlockId, Block>, Error> {
    let sorted: BTreeMap<&str, Vec<i64>> = parameters.into_iter().collect();
    let mut blocks: BTreeMap<BlockId, Block> = BTreeMap::new();
    for (name, shape) in sorted {
        let block = blocks.entry(BlockId::of(name)?).or_default();
        let len = shape.iter().product();
        block.entries.push(Entry { name: name.to_owned(), shape, start: block.len, len });
        block.len += (len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_the_forward_pass() {
        let names = [
            "visual.patch_embed.proj.weight",
            "visual.blocks.2.attn.qkv.weight",
            "visual.blocks.10.norm1.weight",
            "visual.merger.mlp.0.bias",
            "model.embed_tokens.weight",
            "model.layers.0.mlp.up_proj.weight",
            "model.layers.11.mlp.up_proj.weight",
            "model.norm.weight",
        ];
        let ids: Vec<_> = names.iter().map(|n| BlockId::of(n).expect("known")).collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }

    #[test]
    fn both_spellings_of_a_name_are_one_block() {
        for (hub, nested) in [
            ("model.layers.3.x.weight", "model.language_model.layers.3.x.weight"),
            ("visual.blocks.3.x.weight", "model.visual.blocks.3.x.weight"),
            ("model.norm.weight", "model.language_model.norm.weight"),
        ] {
            assert_eq!(BlockId::of(hub).expect("known"), BlockId::of(nested).expect("known"));
        }
    }

    #[test]
    fn a_foreign_parameter_is_named() {
        let error = BlockId::of("model.layers.x.weight").expect_err("not a number");
        assert!(error.to_string().contains("model.layers.x.weight"), "{error}");
    }

    #[test]
    fn places_in_a_block_are_aligned_apart_and_in_the_order_of_names() {
        let parameters = [("model.norm.weight", vec![5]), ("lm_head.weight", vec![3, 11])];
        let blocks = layout(parameters).expect("known");
        let head = &blocks[&BlockId::Head];
        let places: Vec<_> = head.entries.iter().map(|e| (e.name.as_str(), e.start, e.len)).collect();
        assert_eq!(places, [("lm_head.weight", 0, 33), ("model.norm.weight", 64, 5)]);
        assert_eq!(head.len, 96);
    }
}
