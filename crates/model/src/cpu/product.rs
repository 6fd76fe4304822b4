//! Products with packed weights, adapters among them.

use tch::Tensor;

use crate::linear::Linear;
use crate::shim::{Packed, Then};

/// One or several linear maps over the same input, outputs side by side.
#[derive(Debug)]
pub(super) struct Product {
    map: Packed,
    adapters: Option<Adapters>,
}

/// The adapters of a product's maps: one pair of products for all of them.
#[derive(Debug)]
struct Adapters {
    /// All A, one below the other, `[sum of ranks, in]`.
    a: Packed,
    /// All B, one right below the other, `[sum of outputs, sum of ranks]`.
    b: Packed,
    scale: f64,
}

impl Product {
    /// Packs maps for about `rows` rows.
    pub(super) fn new(parts: &[Linear], rows: i64) -> Self {
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Option<Vec<&Tensor>> = parts.iter().map(|part| part.bias.as_ref()).collect();
        let bias = biases.map(|biases| Tensor::cat(&biases, 0));
        let map = Packed::new(&stacked(&weights), bias.as_ref(), rows);
        Self { map, adapters: Adapters::of(parts, rows) }
    }

    pub(super) fn has_adapters(&self) -> bool {
        self.adapters.is_some()
    }

    /// The maps of `x`, then `then`, which without adapters may be anything, with them nothing or a sum.
    pub(super) fn apply(&self, x: &Tensor, then: Then<'_>) -> Tensor {
        let y = self.map.apply(x, then);
        match &self.adapters {
            None => y,
            Some(Adapters { a, b, scale }) => {
                debug_assert!(
                    matches!(then, Then::Nothing | Then::Plus(_)),
                    "an adapter's output is part of a sum"
                );
                b.apply(&(a.apply(x, Then::Nothing) * *scale), Then::Plus(&y))
            }
        }
    }
}

impl Adapters {
    fn of(parts: &[Linear], rows: i64) -> Option<Self> {
        let all = || parts.iter().filter_map(|part| part.adapter.as_ref());
        let first = all().next()?;
        let a: Vec<&Tensor> = all().map(|adapter| &adapter.a).collect();
        let (mut out, mut ranks) = (0, 0);
        let outputs: i64 = parts.iter().map(|part| part.weight.size()[0]).sum();
        let b = first
            .b
            .new_zeros([outputs, a.iter().map(|a| a.size()[0]).sum()], (first.b.kind(), first.b.device()));
        for part in parts {
            let height = part.weight.size()[0];
            if let Some(adapter) = &part.adapter {
                let rank = adapter.a.size()[0];
                b.narrow(0, out, height).narrow(1, ranks, rank).copy_(&adapter.b);
                ranks += rank;
            }
            out += height;
        }
        let (a, scale) = (Packed::new(&stacked(&a), None, rows), first.scale);
        Some(Self { a, b: Packed::new(&b, None, rows), scale })
    }
}

/// Matrices one below the other.
fn stacked(parts: &[&Tensor]) -> Tensor {
    match parts {
        [only] => only.shallow_clone(),
        parts => Tensor::cat(parts, 0),
    }
}
