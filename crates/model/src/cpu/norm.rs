//! RMS norm, one pass over each row.

use tch::Tensor;

use super::element::{Element, Shared, values};
use super::lanes::{Kernel, LANES, fma, sum, vectorised};
use super::shim::parallel;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 1 << 15;

/// As `ops::rms_norm`, with its roundings, over `x` `[rows, hidden]`.
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
            let mut squares = [0.0; LANES];
            let lanes = from.chunks_exact(LANES);
            let mut total: f32 = lanes.remainder().iter().map(|v| v.wide() * v.wide()).sum();
            for lane in lanes {
                for i in 0..LANES {
                    squares[i] = fma::<FMA>(lane[i].wide(), lane[i].wide(), squares[i]);
                }
            }
            total += sum(squares);
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
    use tch::{Device, Kind};

    fn apart<T: Element>(hidden: i64) -> f64 {
        let x = Tensor::randn([37, hidden], (Kind::Float, Device::Cpu)).to_kind(T::KIND);
        let weight = Tensor::randn([hidden], (Kind::Float, Device::Cpu)).to_kind(T::KIND);
        let expected = crate::ops::rms_norm(&x, &weight, 1e-6).to_kind(Kind::Double);
        let got = rms_norm::<T>(&x, &weight, 1e-6).to_kind(Kind::Double);
        ((got - &expected).abs() / (expected.abs() + 1e-3)).max().double_value(&[])
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
