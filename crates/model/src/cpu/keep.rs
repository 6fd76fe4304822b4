//! Dropout's mask, a pass.

use tch::Tensor;

use super::element::{Element, Shared};
use crate::keys;
use crate::shim::parallel;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 1 << 14;

/// Fills `out` `[rows, width]`: `gain` where the draw of row and column is at least `threshold`, else 0.
pub(crate) fn keep<T: Element>(out: &Tensor, rows: &[u64], threshold: u32, gain: f32) {
    let width = out.numel() / rows.len().max(1);
    if width == 0 {
        return;
    }
    let (to, gain, zero) = (Shared::<T>::new(out), T::narrow(gain), T::narrow(0.0));
    parallel(rows.len(), (GRAIN / width).max(1), |range| {
        // SAFETY: each row is given to one thread.
        let to = unsafe { to.part(range.start * width..range.end * width) };
        for (row, key) in to.chunks_exact_mut(width).zip(&rows[range]) {
            let mut draw = *key;
            for value in row {
                draw = draw.wrapping_add(keys::STEP);
                let kept = (keys::mix(draw) >> keys::UNUSED) as u32 >= threshold;
                *value = if kept { gain } else { zero };
            }
        }
    });
}
