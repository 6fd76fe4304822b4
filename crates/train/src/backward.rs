//! Backward link by link: the exact gradient with no hooks and no custom autograd functions.
//!
//! Each link runs forward on a detached input and on leaves of its own; backward goes from the last link to the
//! first, hands each link `dy` and takes `dx`. What a link keeps in between is its graph (`recompute: none`) or
//! its input alone (`recompute: blocks`), from which the graph is built again.

use model::{Link, Params};
use settings::Recompute;
use tch::{Tensor, no_grad_guard};

use crate::Error;
use crate::blocks::BlockId;
use crate::sharding::Weights;

/// Links whose weights may be here: the one that computes and those whose weights travel meanwhile.
const LINKS: usize = 3;

/// A chain's forward pass, with what its backward needs.
pub(crate) struct Forward<'a> {
    links: Vec<Link<'a>>,
    kept: Vec<Kept>,
    /// Links before this one, and the chain's input, need no gradient.
    first: usize,
    /// The last link's output, detached: `[tokens, hidden]` or what the link gives.
    pub(crate) output: Tensor,
}

/// What a link keeps for its backward.
enum Kept {
    Nothing,
    Input(Tensor),
    Graph(Graph),
}

/// A link's forward with its graph.
struct Graph {
    leaves: Params,
    input: Tensor,
    output: Tensor,
}

/// Runs `links` on `input` (detached; no gradient is taken for it). `after` is what [`Forward::then`] asks for.
///
/// # Errors
/// If a link's parameters cannot be had.
pub(crate) fn forward<'a>(
    links: Vec<Link<'a>>,
    input: &Tensor,
    weights: &mut dyn Weights,
    recompute: Recompute,
    after: &[String],
) -> Result<Forward<'a>, Error> {
    let trains = |link: &Link<'_>| link.params.iter().any(|name| weights.trains(name));
    let first = links.iter().position(trains).unwrap_or(links.len());
    let mut kept = Vec::with_capacity(links.len());
    let mut x = input.detach();
    for (i, link) in links.iter().enumerate() {
        // The next links' weights travel while this one computes; towards the end, those that the backward pass
        // begins with stay.
        let coming = links[i..].iter().map(|link| link.params.as_slice()).chain([after]);
        let passed = links[first.min(i)..i].iter().rev().map(|link| link.params.as_slice());
        announce(coming.chain(passed), weights)?;
        let (y, keep) = if i >= first && recompute == Recompute::None {
            let graph = Graph::of(link, &x, i > first, weights)?;
            (graph.output.detach(), Kept::Graph(graph))
        } else {
            let y = without_graph(link, &x, weights)?;
            (y, if i >= first { Kept::Input(x) } else { Kept::Nothing })
        };
        kept.push(keep);
        x = y;
    }
    Ok(Forward { links, kept, first, output: x })
}

impl Forward<'_> {
    /// Asks for `params`, which the loss reads after the chain, and for what the backward pass needs first.
    ///
    /// # Errors
    /// If they cannot be had.
    pub(crate) fn then(&self, params: &[String], weights: &mut dyn Weights) -> Result<Params, Error> {
        let back = self.links[self.first..].iter().rev().map(|link| link.params.as_slice());
        announce([params].into_iter().chain(back), weights)?;
        weights.params(params)
    }

    /// Takes `dy`, the gradient of the chain's output, through the links from the last to the first, and adds
    /// every trained parameter's gradient to `weights`. After each link, `weights` learns of the last block that
    /// links before it still use (none before the first link): all blocks after that one are complete.
    ///
    /// # Errors
    /// If a link's parameters cannot be had, or a collective fails.
    pub(crate) fn backward(mut self, dy: &Tensor, weights: &mut dyn Weights) -> Result<(), Error> {
        let open_before = open_before(&self.links)?;
        let mut dy = dy.shallow_clone();
        while let (Some(link), Some(kept)) = (self.links.pop(), self.kept.pop()) {
            let i = self.links.len();
            if i < self.first {
                break;
            }
            let back = [&link].into_iter().chain(self.links[self.first..].iter().rev());
            announce(back.map(|link| link.params.as_slice()), weights)?;
            let graph = match kept {
                Kept::Graph(graph) => {
                    // The graph has their places; here is what lies there.
                    let _ = weights.params(&link.params)?;
                    graph
                }
                Kept::Input(x) => Graph::of(&link, &x, i > self.first, weights)?,
                Kept::Nothing => break,
            };
            // An idle link at the chain's start has nothing to differentiate.
            if graph.output.requires_grad() {
                model::backward(&graph.output, &dy);
            }
            for (name, leaf) in &graph.leaves {
                let gradient = leaf.grad();
                if gradient.defined() {
                    weights.accumulate(name, &gradient);
                }
            }
            if i > self.first {
                dy = graph.input.grad();
            }
            drop(graph);
            weights.reduce_above(open_before[i])?;
        }
        Ok(())
    }
}

impl Graph {
    /// Runs a link on leaves of its own.
    fn of(link: &Link<'_>, x: &Tensor, below_trains: bool, weights: &mut dyn Weights) -> Result<Self, Error> {
        let params = weights.params(&link.params)?.into_iter();
        let leaf = |name: String, tensor: Tensor| {
            let trains = weights.trains(&name);
            (name, tensor.detach().set_requires_grad(trains))
        };
        let leaves: Params = params.map(|(name, tensor)| leaf(name, tensor)).collect();
        let input = x.detach().set_requires_grad(below_trains);
        let output = (link.forward)(&leaves, &input);
        Ok(Self { leaves, input, output })
    }
}

/// Says whose weights come next, a list a link, and that no others stay.
fn announce<'a>(next: impl Iterator<Item = &'a [String]>, weights: &mut dyn Weights) -> Result<(), Error> {
    let next: Vec<&[String]> = next.filter(|params| !params.is_empty()).take(LINKS).collect();
    weights.announce(&next)
}

fn without_graph(link: &Link<'_>, x: &Tensor, weights: &mut dyn Weights) -> Result<Tensor, Error> {
    let params = weights.params(&link.params)?;
    let _guard = no_grad_guard();
    Ok((link.forward)(&params, x))
}

/// For every link, the last block that links before it use.
fn open_before(links: &[Link<'_>]) -> Result<Vec<Option<BlockId>>, Error> {
    let mut open = None;
    let mut before = Vec::with_capacity(links.len());
    for link in links {
        before.push(open);
        for name in &link.params {
            open = open.max(Some(BlockId::of(name)?));
        }
    }
    Ok(before)
}
