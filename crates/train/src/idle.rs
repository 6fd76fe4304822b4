//! Links that stand in where a rank has nothing to compute: they ask for the same blocks in the same order as the
//! real ones do on the other ranks, and hand their empty input on.

use std::collections::BTreeMap;

use model::{Link, Qwen};

use crate::blocks::BlockId;
use crate::distortion;

/// The vision tower with its merger, over no pictures; hands on image tokens `[0, hidden]`.
pub(crate) fn vision(model: &Qwen) -> Vec<Link<'static>> {
    links(model, BlockId::is_vision)
}

/// The language model, over no tokens.
pub(crate) fn text(model: &Qwen) -> Vec<Link<'static>> {
    links(model, |block| !block.is_vision())
}

/// The throw-away head of a vision stage.
pub(crate) fn distortion() -> Link<'static> {
    link(distortion::names())
}

fn links(model: &Qwen, of: impl Fn(BlockId) -> bool) -> Vec<Link<'static>> {
    let mut blocks: BTreeMap<BlockId, Vec<String>> = BTreeMap::new();
    for name in model.weight_names() {
        if let Ok(block) = BlockId::of(&name)
            && of(block)
        {
            blocks.entry(block).or_default().push(name);
        }
    }
    blocks.into_values().map(link).collect()
}

fn link(params: Vec<String>) -> Link<'static> {
    Link { name: "idle".to_owned(), params, forward: Box::new(|_, x| x.alias()) }
}
