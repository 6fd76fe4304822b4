//! SiLU of one tensor times another, and its derivative, one pass each.

use tch::Tensor;

use super::element::{Element, Shared, values};
use super::lanes::{Kernel, exp, vectorised};
use crate::shim::parallel;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 1 << 14;

/// `silu(gate) · up`, rounding SiLU first, as two operations do.
pub(crate) fn gated<T: Element>(gate: &Tensor, up: &Tensor) -> Tensor {
    let out = up.empty_like();
    let (gate, up, to) = (values::<T>(gate), values::<T>(up), Shared::<T>::new(&out));
    parallel(up.len(), GRAIN, |range| {
        // SAFETY: each part is given to one thread.
        let to = unsafe { to.part(range.clone()) };
        vectorised(Gate { gate: &gate[range.clone()], up: &up[range], to });
    });
    out
}

/// Gradients of gate and up, given that of [`gated`]'s output.
pub(crate) fn gated_backward<T: Element>(gate: &Tensor, up: &Tensor, gradient: &Tensor) -> (Tensor, Tensor) {
    let (d_gate, d_up) = (gate.empty_like(), up.empty_like());
    let (gate, up, dy) = (values::<T>(gate), values::<T>(up), values::<T>(gradient));
    let (to_gate, to_up) = (Shared::<T>::new(&d_gate), Shared::<T>::new(&d_up));
    parallel(up.len(), GRAIN, |range| {
        // SAFETY: each part is given to one thread.
        let (d_gate, d_up) = unsafe { (to_gate.part(range.clone()), to_up.part(range.clone())) };
        vectorised(GateBackward {
            gate: &gate[range.clone()],
            up: &up[range.clone()],
            dy: &dy[range],
            d_gate,
            d_up,
        });
    });
    (d_gate, d_up)
}

struct Gate<'a, T> {
    gate: &'a [T],
    up: &'a [T],
    to: &'a mut [T],
}

impl<T: Element> Kernel for Gate<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for i in 0..self.to.len() {
            let gate = self.gate[i].wide();
            let silu = T::narrow(gate * sigmoid::<FMA>(gate)).wide();
            self.to[i] = T::narrow(silu * self.up[i].wide());
        }
    }
}

struct GateBackward<'a, T> {
    gate: &'a [T],
    up: &'a [T],
    dy: &'a [T],
    d_gate: &'a mut [T],
    d_up: &'a mut [T],
}

impl<T: Element> Kernel for GateBackward<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for i in 0..self.dy.len() {
            let (gate, up, dy) = (self.gate[i].wide(), self.up[i].wide(), self.dy[i].wide());
            let share = sigmoid::<FMA>(gate);
            let silu = gate * share;
            self.d_up[i] = T::narrow(dy * T::narrow(silu).wide());
            self.d_gate[i] = T::narrow(dy * up * (share + silu * (1.0 - share)));
        }
    }
}

/// 1 / (1 + e^−x), from the exponential of a number that is not positive.
#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    let small = exp::<FMA>(-x.abs());
    let share = 1.0 / (1.0 + small);
    if x >= 0.0 { share } else { small * share }
}

#[cfg(test)]
mod tests {
    use super::super::element::Bf16;
    use super::*;
    use tch::{Device, Kind};

    fn apart<T: Element>() -> f64 {
        let random = || (Tensor::randn([37, 50], (Kind::Float, Device::Cpu)) * 4.0).to_kind(T::KIND);
        let (gate, up, dy) = (random(), random(), random());
        let leaves = [&gate, &up].map(|t| t.detach().to_kind(Kind::Float).set_requires_grad(true));
        let y = leaves[0].silu() * &leaves[1];
        (&y * dy.to_kind(Kind::Float)).sum(Kind::Float).backward();
        let (d_gate, d_up) = gated_backward::<T>(&gate, &up, &dy);
        let pairs = [(gated::<T>(&gate, &up), y), (d_gate, leaves[0].grad()), (d_up, leaves[1].grad())];
        let apart = pairs.map(|(got, expected)| {
            ((got.to_kind(Kind::Float) - &expected).abs().max() / expected.abs().max()).double_value(&[])
        });
        apart.into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn values_and_gradients_are_libtorchs() {
        tch::manual_seed(3);
        assert!(apart::<f32>() < 1e-6);
        assert!(apart::<Bf16>() < 1e-2);
    }
}
