//! The gradient's norm and its clipping, as PyTorch's `clip_grad_norm_`.

use tch::{Kind, Tensor};

/// Elements summed in f32 before f64 takes over.
const ROW: i64 = 4096;

/// Sum of squares of a flat f32 tensor `[len]`: rows in f32, their sums in f64, so that the relative error stays
/// near 1e-7 at any length.
pub(crate) fn square_sum(flat: &Tensor) -> f64 {
    let len = flat.numel() as i64;
    let whole = len / ROW * ROW;
    let squares = |rows: Tensor| {
        let norms = rows.linalg_norm(2.0, [1_i64].as_slice(), false, Kind::Float).to_kind(Kind::Double);
        norms.square().sum(Kind::Double).double_value(&[])
    };
    let mut sum = 0.0;
    if whole > 0 {
        sum += squares(flat.narrow(0, 0, whole).view([-1, ROW]));
    }
    if whole < len {
        sum += squares(flat.narrow(0, whole, len - whole).view([1, -1]));
    }
    sum
}

/// What a gradient of this norm is multiplied by; `max_norm` 0 switches clipping off.
pub(crate) fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_sum_of_squares_covers_rows_and_their_rest() {
        for len in [1, ROW - 1, ROW, ROW + 1, 3 * ROW + 7] {
            let flat = Tensor::full([len], 0.5, (Kind::Float, Device::Cpu));
            assert!((square_sum(&flat) / (len as f64 * 0.25) - 1.0).abs() < 2e-7, "{len}");
        }
    }

    #[test]
    fn a_short_gradient_is_left_alone_and_a_long_one_gets_the_bound() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) * 4.0 - 1.0).abs() < 1e-6);
        assert_eq!(clip_factor(4.0, 0.0), 1.0);
    }

    #[test]
    fn a_gradient_that_is_not_a_number_is_seen_in_its_norm() {
        let flat = Tensor::from_slice(&[1.0_f32, f32::NAN]);
        assert!(!square_sum(&flat).is_finite());
    }
}
