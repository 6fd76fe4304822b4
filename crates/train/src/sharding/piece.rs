//! A state in pieces: what a rank owns of a parameter, and whole parameters again out of the ranks' pieces.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::Error;

/// Consecutive values of one tensor of the state.
#[derive(Debug)]
pub(crate) struct Piece {
    /// `master`, `exp_avg`, `exp_avg_sq` or `frozen`, a dot, and the parameter's name.
    pub(crate) name: String,
    /// The parameter's shape.
    pub(crate) shape: Vec<i64>,
    /// First value, in row-major order.
    pub(crate) start: i64,
    /// The values, flat: a view of the state.
    pub(crate) values: Tensor,
    /// Every rank has it; the first one writes it.
    pub(crate) shared: bool,
}

impl Piece {
    /// Values of the whole tensor.
    pub(crate) fn whole(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// What a saved state holds: whole tensors, and those that lie in pieces over several ranks' files.
#[derive(Debug, Default)]
pub(crate) struct StateSource {
    /// By name: first value, and number and type of the values from there on.
    pieces: BTreeMap<String, BTreeMap<i64, (i64, Kind)>>,
}

impl StateSource {
    /// Notes a stored tensor; its name is the state's, or ends in `@` and the place of its first value.
    pub(crate) fn note(&mut self, stored: &str, len: i64, kind: Kind) {
        let (name, start) = place(stored);
        self.pieces.entry(name.to_owned()).or_default().insert(start, (len, kind));
    }

    /// Holds the state to the tensors that `own` are pieces of.
    ///
    /// # Errors
    /// If one is missing in part, or of another size or type.
    pub(crate) fn check(&self, own: &[Piece]) -> Result<(), Error> {
        let known: BTreeMap<&str, &Piece> = own.iter().map(|piece| (piece.name.as_str(), piece)).collect();
        for (name, piece) in known {
            let missing = || Error::StateMissing { name: name.to_owned() };
            let mut end = 0;
            for (&start, &(len, kind)) in self.pieces.get(name).ok_or_else(missing)? {
                if start != end {
                    return Err(missing());
                }
                if kind != piece.values.kind() {
                    return Err(misfit(piece, format!("{kind:?}")));
                }
                end += len;
            }
            if end != piece.whole() {
                return Err(misfit(piece, format!("{end} values")));
            }
        }
        Ok(())
    }

    /// Holds the state's names to those that are `known`, `step` apart.
    ///
    /// # Errors
    /// If it has one more.
    pub(crate) fn only(&self, known: impl Fn(&str) -> bool) -> Result<(), Error> {
        match self.pieces.keys().find(|name| *name != "step" && !known(name)) {
            Some(name) => Err(Error::StateUnknown { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// The name of a stored tensor without its place, and the place.
fn place(stored: &str) -> (&str, i64) {
    match stored.rsplit_once('@').map(|(name, at)| (name, at.parse())) {
        Some((name, Ok(start))) => (name, start),
        _ => (stored, 0),
    }
}

impl Piece {
    /// Where the stored tensor called `stored`, of `len` values, lies over this piece: first value of the tensor,
    /// first value of the piece, number of values.
    pub(crate) fn overlap(&self, stored: &str, len: i64) -> Option<(i64, i64, i64)> {
        let (name, start) = place(stored);
        let (from, to) = (self.start.max(start), (self.start + self.values.numel() as i64).min(start + len));
        (name == self.name && from < to).then(|| (from - start, from - self.start, to - from))
    }
}

fn misfit(piece: &Piece, found: String) -> Error {
    let expected = format!("{:?} {:?}", piece.values.kind(), piece.shape);
    Error::StateShape { name: piece.name.clone(), found, expected }
}
