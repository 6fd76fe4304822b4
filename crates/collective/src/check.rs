//! Which tensors an operation takes: checked before anything is sent.

use tch::{Device, Kind, Tensor};

use crate::{Error, Operation, Result};

/// The tensor's values in one dimension, without its history: `[numel]`, sharing the storage.
///
/// # Errors
/// `Mismatch` where it is not dense and contiguous or lies on another device than `device` (where given);
/// `Unsupported` where its type is none of f32, bf16, i64.
pub(crate) fn flat(operation: Operation, tensor: &Tensor, device: Option<Device>) -> Result<Tensor> {
    let mismatch = |expected: String, got: String| Error::Mismatch {
        what: format!("{operation}: the tensor of shape {:?}", tensor.size()),
        expected,
        got,
    };
    if !tensor.defined() || tensor.is_sparse() || !tensor.is_contiguous() {
        return Err(mismatch("a dense, contiguous one".into(), "another layout".into()));
    }
    match tensor.kind() {
        Kind::Float | Kind::BFloat16 | Kind::Int64 => {}
        kind => {
            return Err(Error::Unsupported {
                what: format!(
                    "{operation}: values of type {kind:?} cannot be sent; use Float, BFloat16 or Int64"
                ),
            });
        }
    }
    if let Some(device) = device.filter(|&device| device != tensor.device()) {
        return Err(mismatch(format!("device {device:?}"), format!("{:?}", tensor.device())));
    }
    Ok(tensor.f_detach()?.f_view([-1])?)
}

/// Holds the one of `whole` and `part` to `world` times the other's size, and both to one type and device.
///
/// # Errors
/// `Mismatch`, quoting both.
pub(crate) fn parts(operation: Operation, whole: &Tensor, part: &Tensor, world: usize) -> Result<()> {
    let mismatch = |what: &str, expected: String, got: String| {
        Err(Error::Mismatch { what: format!("{operation}: {what}"), expected, got })
    };
    if part.numel().checked_mul(world) != Some(whole.numel()) {
        return mismatch(
            "values of the whole",
            format!("{world} ranks × {} values", part.numel()),
            whole.numel().to_string(),
        );
    }
    if whole.kind() != part.kind() {
        return mismatch("type of the whole", format!("{:?}", part.kind()), format!("{:?}", whole.kind()));
    }
    if whole.device() != part.device() {
        return mismatch(
            "device of the whole",
            format!("{:?}", part.device()),
            format!("{:?}", whole.device()),
        );
    }
    Ok(())
}

/// Holds `by` to the places that there are in a world.
///
/// # Errors
/// `Mismatch`, quoting both.
pub(crate) fn places(by: usize, world: usize) -> Result<()> {
    if by < world {
        return Ok(());
    }
    Err(Error::Mismatch {
        what: format!("{}: places", Operation::Shift),
        expected: format!("fewer than {world}"),
        got: by.to_string(),
    })
}

/// Holds `root` to the ranks there are.
///
/// # Errors
/// `Mismatch`, quoting both.
pub(crate) fn root(root: usize, world: usize) -> Result<()> {
    if root < world {
        return Ok(());
    }
    Err(Error::Mismatch {
        what: format!("{}: root", Operation::Broadcast),
        expected: format!("a rank below {world}"),
        got: root.to_string(),
    })
}
