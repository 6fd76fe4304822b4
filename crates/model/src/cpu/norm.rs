//! RMS norm, one pass over each row.

use tch::{Kind, Tensor};

use super::element::{Element, Shared, values};
use super::lanes::{Kernel, LANES, fma, sum, vectorised};
use crate::shim::parallel;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 1 << 15;

/// As `ops::rms_norm_of_tensors`, with its roundings, over `x` `[rows, hidden]`.
pub(crate) fn rms_norm<T: Element>(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let out = x.empty_like();
    let weight = values::<T>(weight);
    let (from, to) = (values::<T>(x), Shared::<T>::new(&out));
    let hidden = weight.len();
    parallel(from.len() / hidden, (GRAIN / hidden).max(1), |rows| {
        let range = rows.start * hidden..rows.end * hidden;
        // SAFETY: each part of the rows is given to one thread.
        let to = unsafe { to.part(range.clone()) };
        vectorised(Norm { from: &from[range], weight, to, eps: eps as f32 });
    });
    out
}

/// Rows whose share of the weight's gradient is summed at once, whatever the number of threads.
const ROWS: usize = 128;

/// Gradients of `x` and `weight`, given that of [`rms_norm`]'s output.
pub(crate) fn rms_norm_backward<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    gradient: &Tensor,
) -> (Tensor, Tensor) {
    let out = x.empty_like();
    let (from, dy, weights) = (values::<T>(x), values::<T>(gradient), values::<T>(weight));
    let hidden = weights.len();
    let rows = from.len() / hidden;
    let parts = rows.div_ceil(ROWS);
    let sums = Tensor::zeros([parts as i64, hidden as i64], (Kind::Float, x.device()));
    let (to, to_sums) = (Shared::<T>::new(&out), Shared::<f32>::new(&sums));
    parallel(parts, (GRAIN / hidden / ROWS).max(1), |numbers| {
        for number in numbers {
            let range = number * ROWS * hidden..((number + 1) * ROWS).min(rows) * hidden;
            // SAFETY: each part is given to one thread.
            let (to, sums) =
                unsafe { (to.part(range.clone()), to_sums.part(number * hidden..(number + 1) * hidden)) };
            let (from, dy) = (&from[range.clone()], &dy[range]);
            vectorised(NormBackward { from, dy, weight: weights, to, sums, eps: eps as f32 });
        }
    });
    (out, sums.sum_dim_intlist([0_i64].as_slice(), false, Kind::Float).to_kind(T::KIND))
}

struct NormBackward<'a, T> {
    from: &'a [T],
    dy: &'a [T],
    weight: &'a [T],
    to: &'a mut [T],
    sums: &'a mut [f32],
    eps: f32,
}

impl<T: Element> Kernel for NormBackward<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let hidden = self.weight.len();
        let rows = self.from.chunks_exact(hidden).zip(self.dy.chunks_exact(hidden));
        for ((from, dy), to) in rows.zip(self.to.chunks_exact_mut(hidden)) {
            let squares = dot::<T, FMA>(from, |i| from[i].wide());
            let scale = 1.0 / (squares / hidden as f32 + self.eps).sqrt();
            let along = dot::<T, FMA>(from, |i| dy[i].wide() * self.weight[i].wide());
            let pull = along * scale * scale * scale / hidden as f32;
            for i in 0..hidden {
                let (x, dy) = (from[i].wide(), dy[i].wide());
                to[i] = T::narrow(fma::<FMA>(dy * self.weight[i].wide(), scale, -x * pull));
                self.sums[i] = fma::<FMA>(dy, T::narrow(x * scale).wide(), self.sums[i]);
            }
        }
    }
}

/// Σ `values` · `others`.
#[inline(always)]
fn dot<T: Element, const FMA: bool>(values: &[T], others: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let whole = values.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for i in 0..LANES {
            sums[i] = fma::<FMA>(values[start + i].wide(), others(start + i), sums[i]);
        }
    }
    sum(sums) + (whole..values.len()).map(|i| values[i].wide() * others(i)).sum::<f32>()
}

struct Norm<'a, T> {
    from: &'a [T],
    weight: &'a [T],
    to: &'a mut [T],
    eps: f32,
}

impl<T: Element> Kernel for Norm<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let hidden = self.weight.len();
        for (from, to) in self.from.chunks_exact(hidden).zip(self.to.chunks_exact_mut(hidden)) {
            let total = dot::<T, FMA>(from, |i| from[i].wide());
            let scale = 1.0 / (total / hidden as f32 + self.eps).sqrt();
            for ((to, from), weight) in to.iter_mut().zip(from).zip(self.weight) {
                *to = T::narrow(T::narrow(from.wide() * scale).wide() * weight.wide());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::Bf16;
    use super::*;
    use tch::Device;

    fn apart<T: Element>(hidden: i64) -> f64 {
        let x = Tensor::randn([37, hidden], (Kind::Float, Device::Cpu)).to_kind(T::KIND);
        let weight = Tensor::randn([hidden], (Kind::Float, Device::Cpu)).to_kind(T::KIND);
        let expected = crate::ops::rms_norm_of_tensors(&x, &weight, 1e-6).to_kind(Kind::Double);
        let got = rms_norm::<T>(&x, &weight, 1e-6).to_kind(Kind::Double);
        ((got - &expected).abs() / (expected.abs() + 1e-3)).max().double_value(&[])
    }

    /// Gradients of the sum of the outputs, weighted at random, by both ways; the largest difference, relative.
    fn gradients_apart<T: Element>(hidden: i64) -> f64 {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(T::KIND);
        let (x, weight, dy) = (random(&[300, hidden]), random(&[hidden]), random(&[300, hidden]));
        let leaves = [&x, &weight].map(|t| t.detach().to_kind(Kind::Float).set_requires_grad(true));
        let y = crate::ops::rms_norm_of_tensors(&leaves[0], &leaves[1], 1e-6);
        (y * dy.to_kind(Kind::Float)).sum(Kind::Float).backward();
        let (dx, dw) = rms_norm_backward::<T>(&x, &weight, 1e-6, &dy);
        let apart = |got: Tensor, leaf: &Tensor| {
            let expected = leaf.grad();
            ((got.to_kind(Kind::Float) - &expected).abs().max() / expected.abs().max()).double_value(&[])
        };
        apart(dx, &leaves[0]).max(apart(dw, &leaves[1]))
    }

    #[test]
    fn gradients_are_autograds() {
        tch::manual_seed(2);
        for hidden in [8, 20, 64, 576] {
            assert!(gradients_apart::<f32>(hidden) < 1e-5, "{hidden}");
            assert!(gradients_apart::<Bf16>(hidden) < 1e-2, "{hidden}");
        }
    }

    #[test]
    fn rows_of_any_width_are_normed_as_libtorch_does() {
        tch::manual_seed(1);
        for hidden in [8, 16, 20, 64, 576] {
            assert!(apart::<f32>(hidden) < 1e-5, "{hidden}");
            // A last bit of bf16 may round the other way.
            assert!(apart::<Bf16>(hidden) < 1e-2, "{hidden}");
        }
    }
}
