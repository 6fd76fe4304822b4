//! A rank's slice of one trained block.

use std::collections::BTreeMap;

use model::Params;
use tch::{Device, Kind, Tensor};

use super::{Piece, Place, Slice};
use crate::adamw::{AdamW, Buffers};
use crate::blocks::{ALIGNMENT, Block};
use crate::tensors::f32_bytes;

/// A block's flat buffer, cut into equal slices over ranks.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) block: Block,
    /// Elements a slice.
    pub(super) len: i64,
    /// First element of this rank's slice.
    pub(super) start: i64,
    place: Place,
}

/// What a slice holds of a parameter.
struct Part<'a> {
    name: &'a str,
    shape: &'a [i64],
    /// First element within the parameter.
    from: i64,
    /// First element within the slice.
    at: i64,
    len: i64,
}

impl Cut {
    pub(super) fn new(block: Block, place: Place) -> Self {
        let step = ALIGNMENT * place.of as i64;
        let len = (block.len + step - 1) / step * ALIGNMENT;
        Self { block, len, start: len * place.index as i64, place }
    }

    /// Elements of all slices: the block's and what fills up the last ones.
    pub(super) fn padded(&self) -> i64 {
        self.len * self.place.of as i64
    }

    /// This rank's slice of the block's weights, as `kind`.
    pub(super) fn slice(&self, weights: &Params, kind: Kind, device: Device) -> Tensor {
        let slice = Tensor::zeros([self.len], (kind, device));
        for part in self.parts() {
            let whole = weights.get(part.name).detach().reshape([-1]);
            slice.narrow(0, part.at, part.len).copy_(&whole.narrow(0, part.from, part.len));
        }
        slice
    }

    /// Pieces of `slice`, which is one of this rank's; `what` begins their names.
    pub(super) fn pieces(&self, what: &str, slice: &Tensor) -> Vec<Piece> {
        let piece = |part: Part<'_>| Piece {
            name: format!("{what}.{}", part.name),
            shape: part.shape.to_vec(),
            start: part.from,
            values: slice.narrow(0, part.at, part.len),
            shared: false,
        };
        self.parts().map(piece).collect()
    }

    /// Views of the parameters in a gathered buffer `[padded]`.
    pub(super) fn views<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (String, Tensor)> + 'a {
        self.block.entries.iter().map(|entry| (entry.name.clone(), entry.view(flat)))
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.block.entries.iter().any(|entry| entry.name == name)
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let own = self.start..self.start + self.len;
        self.block.entries.iter().filter_map(move |entry| {
            let (first, end) = (entry.start.max(own.start), (entry.start + entry.len).min(own.end));
            (first < end).then(|| Part {
                name: &entry.name,
                shape: &entry.shape,
                from: first - entry.start,
                at: first - own.start,
                len: end - first,
            })
        })
    }
}

/// Flat buffers of a rank's slice of a trained block, all `[cut.len]`.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) cut: Cut,
    /// f32.
    pub(super) master: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    /// f32, summed over micro-batches and ranks.
    pub(super) grad: Tensor,
    /// What is gathered, in compute type; the master itself where that is f32.
    pub(super) compute: Tensor,
}

impl Shard {
    pub(super) fn new(block: Block, place: Place, weights: &Params, kind: Kind, device: Device) -> Self {
        let cut = Cut::new(block, place);
        let master = cut.slice(weights, Kind::Float, device);
        let compute = if kind == Kind::Float { master.shallow_clone() } else { master.to_kind(kind) };
        Self {
            exp_avg: master.zeros_like(),
            exp_avg_sq: master.zeros_like(),
            grad: master.zeros_like(),
            cut,
            master,
            compute,
        }
    }

    pub(super) fn apply(&mut self, adamw: &AdamW, factor: f64) {
        let Self { master, exp_avg, exp_avg_sq, grad, .. } = self;
        adamw.apply(&Buffers { master, exp_avg, exp_avg_sq, grad }, factor);
        self.refresh();
    }

    /// Brings the compute copy up to the master.
    pub(super) fn refresh(&mut self) {
        if self.compute.kind() != Kind::Float {
            self.compute.copy_(&self.master);
        }
    }

    pub(super) fn pieces(&self) -> Vec<Piece> {
        let parts = [("master", &self.master), ("exp_avg", &self.exp_avg), ("exp_avg_sq", &self.exp_avg_sq)];
        parts.iter().flat_map(|(what, slice)| self.cut.pieces(what, slice)).collect()
    }

    /// Its buffers.
    pub(super) fn slice(&self) -> Slice {
        Slice {
            master: self.master.shallow_clone(),
            exp_avg: self.exp_avg.shallow_clone(),
            exp_avg_sq: self.exp_avg_sq.shallow_clone(),
            grad: self.grad.shallow_clone(),
        }
    }

    /// Digests of what the slice holds of each parameter.
    pub(super) fn digests(&self) -> impl Iterator<Item = (String, [u8; 32])> {
        self.cut.pieces("master", &self.master).into_iter().map(|piece| digest(&piece))
    }
}

/// Digests by name and place.
pub(super) type Digests = BTreeMap<String, [u8; 32]>;

/// A piece's name with its place, and the digest of its values.
pub(super) fn digest(piece: &Piece) -> (String, [u8; 32]) {
    let name = format!("{}@{}", piece.name, piece.start);
    let digest = checkpoint::tensor_digest(&name, &piece.shape, &f32_bytes(&piece.values));
    (name, digest)
}
