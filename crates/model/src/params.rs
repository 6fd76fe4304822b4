//! Weights by name, in one order everywhere, and their loading from mapped files.

use std::collections::BTreeMap;
use std::collections::btree_map::{IntoIter, Iter};

use checkpoint::weights::{Dtype, View, WeightFiles};
use tch::{Device, Kind, TchError, Tensor};

use crate::config::Config;
use crate::names::{EMBEDDING, HEAD, canonical, expected};

/// Weights by canonical name, sorted. A subset of a model's is fine: a block asks only for its own.
#[derive(Debug, Default)]
pub struct Params {
    tensors: BTreeMap<String, Tensor>,
}

/// Why weights were refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The files and `config.json` disagree; every disagreement is listed, and told unless they are very many.
    #[error("weights do not fit config.json: {}", told(.0))]
    Mismatch(Vec<String>),
    /// libtorch refused to make a tensor.
    #[error("tensor {name}: {source}")]
    Torch {
        /// Its canonical name.
        name: String,
        /// libtorch's words.
        source: TchError,
    },
}

/// Disagreements that are told: more of them mean another model, and fill no screen.
const TOLD: usize = 100;

fn told(wrong: &[String]) -> String {
    match wrong.get(..TOLD) {
        Some(first) if wrong.len() > TOLD => {
            format!(
                "{}; and {} more: is this another model's config.json?",
                first.join("; "),
                wrong.len() - TOLD
            )
        }
        _ => wrong.join("; "),
    }
}

impl Params {
    /// No weights.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads all weights of the model that `config` describes as `kind` onto `device`, piece by piece: besides the
    /// weights themselves it takes a few megabytes.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected, misshapen or not floating-point, naming all such tensors at once; or if a
    /// tied model carries a head that differs from its embedding.
    pub fn load(config: &Config, files: &WeightFiles, kind: Kind, device: Device) -> Result<Self, LoadError> {
        let published = match_names(config, files)?;
        let mut params = Self::new();
        let mut head = None;
        for (name, in_file) in published {
            let Some(view) = files.tensor(in_file) else { continue };
            let torch = |source| LoadError::Torch { name: name.clone(), source };
            if config.tied && name == HEAD {
                head = Some(view);
                continue;
            }
            let tensor = tensor(&view, kind, device).map_err(torch)?;
            params.insert(name, tensor);
        }
        let torch = |source| LoadError::Torch { name: HEAD.to_owned(), source };
        if let Some(head) = head
            && !holds(params.get(EMBEDDING), &head).map_err(torch)?
        {
            let message =
                format!("{HEAD} differs from {EMBEDDING}, and config.json says tie_word_embeddings");
            return Err(LoadError::Mismatch(vec![message]));
        }
        Ok(params)
    }

    /// The tensor called `name`.
    ///
    /// # Panics
    /// If there is none: callers list what they use, and loading checks that a model is whole.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no weight called {name} among {}", self.tensors.len()))
    }

    /// The same weights as `kind`; those that are of it already are shared, not copied.
    #[must_use]
    pub fn as_kind(&self, kind: Kind) -> Self {
        self.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(kind))).collect()
    }

    /// The tensor called `name`, if it is there.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Adds a tensor, or replaces the one of that name, which is returned.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> Iter<'_, String, Tensor> {
        self.tensors.iter()
    }

    /// Number of values over all tensors.
    #[must_use]
    pub fn values(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = (&'a String, &'a Tensor);
    type IntoIter = Iter<'a, String, Tensor>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Params {
    type Item = (String, Tensor);
    type IntoIter = IntoIter<String, Tensor>;
    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

impl FromIterator<(String, Tensor)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(items: I) -> Self {
        Self { tensors: items.into_iter().collect() }
    }
}

/// Canonical name → name in the files, for exactly the model's weights (and a tied model's spare head).
fn match_names<'a>(config: &Config, files: &'a WeightFiles) -> Result<BTreeMap<String, &'a str>, LoadError> {
    let expected = expected(config);
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    for in_file in files.names() {
        let name = canonical(in_file);
        let spare_head = config.tied && name == HEAD;
        let shape = expected.get(if spare_head { EMBEDDING } else { &name });
        let (Some(shape), Some(view)) = (shape, files.tensor(in_file)) else {
            wrong.push(format!("unexpected {in_file}"));
            continue;
        };
        if !view.shape.iter().map(|&n| n as i64).eq(shape.iter().copied()) {
            wrong.push(format!("{in_file} has shape {:?}, expected {shape:?}", view.shape));
        }
        if kind_of(view.dtype).is_none() {
            wrong.push(format!("{in_file} is {:?}, expected F32, F16 or BF16", view.dtype));
        }
        if let Some(other) = found.insert(name, in_file) {
            wrong.push(format!("{in_file} and {other} are the same weight"));
        }
    }
    wrong.extend(
        expected.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("missing {name}")),
    );
    if wrong.is_empty() { Ok(found) } else { Err(LoadError::Mismatch(wrong)) }
}

pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// A stored tensor's copy as `kind` on `device`.
pub(crate) fn tensor(view: &View<'_>, kind: Kind, device: Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = view.shape.iter().map(|&n| n as i64).collect();
    let whole = Tensor::f_empty(shape, (kind, device))?;
    let flat = whole.f_view([-1])?;
    each_piece(view, |at, piece| {
        flat.f_narrow(0, at, piece.numel() as i64)?.f_copy_(piece)?;
        Ok(true)
    })?;
    Ok(whole)
}

/// Whether `whole` has the values of a stored tensor, as its own kind.
fn holds(whole: &Tensor, view: &View<'_>) -> Result<bool, TchError> {
    let flat = whole.f_view([-1])?;
    each_piece(view, |at, piece| {
        let part = flat.f_narrow(0, at, piece.numel() as i64)?;
        part.f_equal(&piece.f_to_device(part.device())?.f_to_kind(part.kind())?)
    })
}

/// Hands out a stored tensor's values, flat, piece by piece with their place, while `each` says so; whether all were.
fn each_piece(
    view: &View<'_>,
    mut each: impl FnMut(i64, &Tensor) -> Result<bool, TchError>,
) -> Result<bool, TchError> {
    let kind = kind_of(view.dtype).ok_or_else(|| TchError::Kind(format!("{:?}", view.dtype)))?;
    let mut at = 0;
    view.each_piece(|bytes| {
        let count = (bytes.len() / kind.elt_size_in_bytes()) as i64;
        let go_on = each(at, &Tensor::f_from_data_size(bytes, &[count], kind)?)?;
        at += count;
        Ok(go_on)
    })
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
