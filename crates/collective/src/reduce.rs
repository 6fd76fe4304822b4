//! Reduction of the ranks' values within one process.

use tch::{Kind, Tensor};

use crate::{ReduceOp, Result};

/// Reduces `[ranks, n]` to `[n]`, in rank order; bf16 sums accumulate in f32 and are rounded once.
///
/// # Errors
/// `Internal` where libtorch refuses (memory).
pub(crate) fn over_ranks(values: &Tensor, op: ReduceOp) -> Result<Tensor> {
    let reduced = match op {
        ReduceOp::Sum if values.kind() == Kind::BFloat16 => {
            values.f_sum_dim_intlist(0, false, Kind::Float)?.f_to_kind(Kind::BFloat16)?
        }
        ReduceOp::Sum => values.f_sum_dim_intlist(0, false, values.kind())?,
        ReduceOp::Min => values.f_amin(0, false)?,
        ReduceOp::Max => values.f_amax(0, false)?,
    };
    Ok(reduced)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn bf16_sums_are_rounded_once() {
        // 256 + 1 is 256 in bf16, so rounding after every addition would lose all the ones.
        let mut values = vec![1f32; 9];
        values[0] = 256.0;
        let values = Tensor::from_slice(&values).to_kind(Kind::BFloat16).view([9, 1]);
        assert_eq!(over_ranks(&values, ReduceOp::Sum).unwrap().double_value(&[0]), 264.0);
    }
}
