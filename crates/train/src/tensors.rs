//! Tensors as bytes, for digests and files.

use std::borrow::Cow;

use checkpoint::{Dtype, View};
use tch::{Device, Kind, Tensor, no_grad_guard};

use crate::Error;

/// A tensor's values as little-endian f32 in row-major order, wherever it lies.
pub(crate) fn f32_bytes(tensor: &Tensor) -> Vec<u8> {
    let _guard = no_grad_guard();
    bytes(&tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float))
}

/// A tensor on its way into a file; converted and copied from its device when it is written.
#[derive(Debug)]
pub(crate) struct Stored {
    tensor: Tensor,
    kind: Kind,
    shape: Vec<usize>,
}

impl Stored {
    /// `tensor`, to be written as `kind`.
    ///
    /// # Errors
    /// If no file has this type.
    pub(crate) fn new(name: &str, tensor: &Tensor, kind: Kind) -> Result<Self, Error> {
        if dtype(kind).is_none() {
            return Err(Error::StateShape {
                name: name.to_owned(),
                found: format!("{kind:?}"),
                expected: "Float, BFloat16 or Int64".to_owned(),
            });
        }
        let shape = tensor.size().iter().map(|&n| n.unsigned_abs() as usize).collect();
        Ok(Self { tensor: tensor.detach(), kind, shape })
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        dtype(self.kind).unwrap_or(Dtype::F32)
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let _guard = no_grad_guard();
        Cow::Owned(bytes(&self.tensor.to_device(Device::Cpu).to_kind(self.kind)))
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.kind.elt_size_in_bytes()
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Float => Some(Dtype::F32),
        Kind::BFloat16 => Some(Dtype::BF16),
        Kind::Int64 => Some(Dtype::I64),
        _ => None,
    }
}

/// The kind that a file's type is read as.
pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        _ => None,
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
