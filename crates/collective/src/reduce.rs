//! Reduction of the ranks' values within one process.

use std::borrow::Borrow;

use tch::{Kind, Tensor};

use crate::{Error, ReduceOp, Result};

/// Values reduced at a time: what stays in the processor's cache, and takes no fresh pages.
const CHUNK: usize = 1 << 18;

/// Reduces the ranks' rows, each `[n]`, into `output` `[n]`, in rank order; bf16 sums accumulate in f32 and
/// are rounded once. The output may be one of the rows.
///
/// # Errors
/// `Internal` where there is no row, or libtorch refuses (sizes that differ).
pub(crate) fn over_ranks<T: Borrow<Tensor>>(rows: &[T], op: ReduceOp, output: &Tensor) -> Result<()> {
    let (first, rest) =
        rows.split_first().ok_or_else(|| Error::Internal { detail: "no rank to reduce over".into() })?;
    let n = output.numel();
    for start in (0..n).step_by(CHUNK) {
        let part = |tensor: &Tensor| tensor.f_narrow(0, start as i64, CHUNK.min(n - start) as i64);
        let first = part(first.borrow())?;
        let mut reduced = match (op, first.kind()) {
            (ReduceOp::Sum, Kind::BFloat16) => first.f_to_kind(Kind::Float)?,
            _ => {
                let mut copy = first.f_empty_like()?;
                copy.f_copy_(&first)?;
                copy
            }
        };
        for row in rest {
            let row = part(row.borrow())?;
            reduced = match op {
                ReduceOp::Sum => reduced.f_add_(&row)?,
                ReduceOp::Min => reduced.f_minimum(&row)?,
                ReduceOp::Max => reduced.f_maximum(&row)?,
            };
        }
        part(output)?.f_copy_(&reduced)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;
    use tch::Device;

    #[test]
    fn bf16_sums_are_rounded_once() {
        // 256 + 1 is 256 in bf16, so rounding after every addition would lose all the ones.
        let row = |value: f32| Tensor::from_slice(&[value]).to_kind(Kind::BFloat16);
        let rows: Vec<Tensor> = [256.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0].map(row).into();
        let sum = row(0.0);
        over_ranks(&rows, ReduceOp::Sum, &sum).unwrap();
        assert_eq!(sum.double_value(&[0]), 264.0);
    }

    #[test]
    fn every_chunk_is_reduced_and_the_rows_stay_as_they_are() {
        let n = 2 * CHUNK as i64 + 3;
        let rows =
            [Tensor::arange(n, (Kind::Float, Device::Cpu)), Tensor::ones([n], (Kind::Float, Device::Cpu))];
        let sum = rows[0].zeros_like();
        over_ranks(&rows, ReduceOp::Sum, &sum).unwrap();
        assert!(sum.equal(&Tensor::arange_start(1, n + 1, (Kind::Float, Device::Cpu))));
        assert!(rows[0].equal(&Tensor::arange(n, (Kind::Float, Device::Cpu))));
    }
}
