//! Which inputs of adapters a training pass leaves out.
//!
//! A value's draw depends on its row's key, its adapter and its column alone: a pass that is run again draws the same,
//! and neither the batch nor the rank changes it.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::cpu::{Bf16, keep};
use crate::keys;

/// Dropout over rows that have keys.
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f64,
    /// One a row of what goes into a link.
    rows: Rc<[u64]>,
}

impl Dropout {
    /// Leaves out a share `rate` (at least 0, below 1) of every row's values; rows of equal keys lose the same.
    #[must_use]
    pub fn new(rate: f64, rows: Vec<u64>) -> Self {
        Self { rate, rows: rows.into() }
    }

    /// Rows in the order of `tokens`, each of which stands for `unit` consecutive rows.
    pub(crate) fn ordered(&self, tokens: &[i64], unit: i64) -> Self {
        let unit = unit as usize;
        let rows = tokens.iter().flat_map(|&token| &self.rows[token as usize * unit..][..unit]);
        Self { rate: self.rate, rows: rows.copied().collect() }
    }

    /// Every `unit`-th row.
    pub(crate) fn every(&self, unit: i64) -> Self {
        Self { rate: self.rate, rows: self.rows.iter().copied().step_by(unit.max(1) as usize).collect() }
    }

    /// What the input `[rows, width]` of the adapter of `module` is multiplied by: 0, or 1 / (1 − rate).
    pub(crate) fn mask(&self, module: &str, width: i64, kind: Kind, device: Device) -> Tensor {
        let rows: Vec<u64> = self.rows.iter().map(|row| row ^ keys::name(module)).collect();
        if device != Device::Cpu {
            return self.mask_of_tensors(&rows, width, kind, device);
        }
        let out = Tensor::empty([rows.len() as i64, width], (kind, device));
        match kind {
            Kind::BFloat16 => keep::<Bf16>(&out, &rows, self.threshold(), self.gain()),
            Kind::Float => keep::<f32>(&out, &rows, self.threshold(), self.gain()),
            _ => return self.mask_of_tensors(&rows, width, kind, device),
        }
        out
    }

    /// As [`Self::mask`], by tensor operations, on any device.
    fn mask_of_tensors(&self, rows: &[u64], width: i64, kind: Kind, device: Device) -> Tensor {
        let rows: Vec<i64> = rows.iter().map(|row| row.cast_signed()).collect();
        let shifted = |z: &Tensor, by: i64| {
            z.bitwise_right_shift_tensor_scalar(by).bitwise_and((u64::MAX >> by).cast_signed())
        };
        let columns = (Tensor::arange(width, (Kind::Int64, device)) + 1) * keys::STEP.cast_signed();
        let mut z = Tensor::from_slice(&rows).to_device(device).unsqueeze(1) + columns;
        for (shift, factor) in keys::ROUNDS {
            z = z.bitwise_xor_tensor(&shifted(&z, shift.into())) * factor.cast_signed();
        }
        z = z.bitwise_xor_tensor(&shifted(&z, keys::LAST.into()));
        let kept = shifted(&z, keys::UNUSED.into()).ge(i64::from(self.threshold()));
        kept.to_kind(kind) * f64::from(self.gain())
    }

    /// Draws below it are left out.
    fn threshold(&self) -> u32 {
        (self.rate * f64::from(1_u32 << keys::BITS)) as u32
    }

    fn gain(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropout() -> Dropout {
        Dropout::new(0.25, (0..40).map(|row| keys::join(&[7, row])).collect())
    }

    #[test]
    fn both_ways_draw_the_same() {
        let dropout = dropout();
        for kind in [Kind::Float, Kind::BFloat16] {
            let mask = dropout.mask("a", 33, kind, Device::Cpu);
            let rows: Vec<u64> = dropout.rows.iter().map(|row| row ^ keys::name("a")).collect();
            assert_eq!(mask, dropout.mask_of_tensors(&rows, 33, kind, Device::Cpu));
        }
    }

    #[test]
    fn a_share_is_left_out_and_the_mean_is_kept() {
        let rows = (0..1000).map(|row| keys::join(&[row])).collect();
        let mask = Dropout::new(0.25, rows).mask("a", 100, Kind::Float, Device::Cpu);
        // Standard deviation of the mean: 0.0018.
        let mean = mask.mean(Kind::Float).double_value(&[]);
        assert!((mean - 1.0).abs() < 0.008, "{mean}");
        let largest = mask.max().double_value(&[]);
        assert!((largest - 4.0 / 3.0).abs() < 1e-6 && mask.min().double_value(&[]) == 0.0);
    }

    #[test]
    fn another_adapter_or_row_draws_others_and_order_moves_rows() {
        let dropout = dropout();
        let mask = |dropout: &Dropout, module: &str| dropout.mask(module, 16, Kind::Float, Device::Cpu);
        assert_ne!(mask(&dropout, "a"), mask(&dropout, "b"));
        assert_ne!(mask(&dropout, "a").get(0), mask(&dropout, "a").get(1));
        let back = dropout.ordered(&[1, 0], 2);
        assert_eq!(mask(&back, "a").get(0), mask(&dropout, "a").get(2));
        assert_eq!(mask(&back.every(2), "a").get(1), mask(&dropout, "a").get(0));
    }
}
