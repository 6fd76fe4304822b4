//! AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as PyTorch's
//! `torch.optim.AdamW` orders its operations, on flat f32 buffers.

use settings::Optimizer;
use tch::Tensor;

/// Elements stepped at once: bounds the temporaries, and keeps them in cache on a CPU.
const CHUNK: i64 = 1 << 18;

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    step_size: f64,
    correction2_sqrt: f64,
}

/// Buffers of equal length that a step reads and writes.
#[derive(Debug)]
pub(crate) struct Buffers<'a> {
    /// Master weights, f32 `[len]`.
    pub(crate) master: &'a Tensor,
    /// First moment, f32 `[len]`.
    pub(crate) exp_avg: &'a Tensor,
    /// Second moment, f32 `[len]`.
    pub(crate) exp_avg_sq: &'a Tensor,
    /// Gradient, f32 `[len]`; left as it is.
    pub(crate) grad: &'a Tensor,
}

impl AdamW {
    /// The constants of optimizer step `step` (1 is the first) at learning rate `lr`.
    pub(crate) fn at(optimizer: &Optimizer, lr: f64, step: u64) -> Self {
        let [beta1, beta2] = optimizer.betas;
        let step = step.max(1) as f64;
        Self {
            lr,
            beta1,
            beta2,
            eps: optimizer.eps,
            weight_decay: optimizer.weight_decay,
            step_size: lr / (1.0 - beta1.powf(step)),
            correction2_sqrt: (1.0 - beta2.powf(step)).sqrt(),
        }
    }

    /// Steps the buffers in place with `factor` times the gradient (the clipping factor). Call without
    /// gradient tracking.
    pub(crate) fn apply(&self, buffers: &Buffers<'_>, factor: f64) {
        let len = buffers.master.numel() as i64;
        for start in (0..len).step_by(CHUNK as usize) {
            let part = |t: &Tensor| t.narrow(0, start, CHUNK.min(len - start));
            self.apply_part(
                part(buffers.master),
                part(buffers.exp_avg),
                part(buffers.exp_avg_sq),
                part(buffers.grad) * factor,
            );
        }
    }

    fn apply_part(&self, mut master: Tensor, mut exp_avg: Tensor, mut exp_avg_sq: Tensor, grad: Tensor) {
        if self.weight_decay != 0.0 {
            let _ = master.g_mul_scalar_(1.0 - self.lr * self.weight_decay);
        }
        let _ = exp_avg.lerp_(&grad, 1.0 - self.beta1);
        let square = &grad * (1.0 - self.beta2) * &grad;
        let _ = exp_avg_sq.g_mul_scalar_(self.beta2).g_add_(&square);
        let mut denominator = exp_avg_sq.sqrt_out(&square);
        let _ = denominator.g_div_scalar_(self.correction2_sqrt).g_add_scalar_(self.eps);
        let mut change = grad;
        change.copy_(&exp_avg);
        let _ = change.g_mul_scalar_(-self.step_size).g_div_(&denominator);
        let _ = master.g_add_(&change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use tch::{Kind, no_grad};

    #[derive(Deserialize)]
    struct Case {
        lr: f64,
        weight_decay: f64,
        betas: [f64; 2],
        eps: f64,
        start: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        weights: Vec<Vec<f32>>,
        exp_avg: Vec<f32>,
        exp_avg_sq: Vec<f32>,
    }

    /// Bit for bit but for one unit in the last place, which contraction of products may cost.
    fn assert_close(got: &Tensor, expected: &[f32]) {
        let got = Vec::<f32>::try_from(got).expect("f32");
        for (g, e) in got.iter().zip(expected) {
            assert!((g - e).abs() <= 1.2e-7 * e.abs(), "{g:e}, PyTorch has {e:e}");
        }
    }

    #[test]
    fn every_step_gives_the_weights_and_moments_of_pytorch() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../tests/data/adamw.json")).expect("as adamw.py writes it");
        for case in cases {
            let Case { lr, weight_decay, betas, eps, .. } = case;
            let optimizer = Optimizer { lr, weight_decay, betas, eps, ..Optimizer::default() };
            let master = Tensor::from_slice(&case.start);
            let (exp_avg, exp_avg_sq) = (master.zeros_like(), master.zeros_like());
            for (i, (grad, weights)) in case.gradients.iter().zip(&case.weights).enumerate() {
                let grad = Tensor::from_slice(grad);
                let buffers =
                    Buffers { master: &master, exp_avg: &exp_avg, exp_avg_sq: &exp_avg_sq, grad: &grad };
                no_grad(|| AdamW::at(&optimizer, lr, i as u64 + 1).apply(&buffers, 1.0));
                assert_close(&master, weights);
            }
            assert_close(&exp_avg, &case.exp_avg);
            assert_close(&exp_avg_sq, &case.exp_avg_sq);
        }
    }

    #[test]
    fn a_buffer_longer_than_a_chunk_is_stepped_to_its_end() {
        let len = 2 * CHUNK + 3;
        let ones = || Tensor::ones([len], (Kind::Float, tch::Device::Cpu));
        let (master, exp_avg, exp_avg_sq) = (ones(), ones().zeros_like(), ones().zeros_like());
        let buffers = Buffers { master: &master, exp_avg: &exp_avg, exp_avg_sq: &exp_avg_sq, grad: &ones() };
        no_grad(|| AdamW::at(&Optimizer::default(), 0.5, 1).apply(&buffers, 1.0));
        let (least, most) = (master.min().double_value(&[]), master.max().double_value(&[]));
        assert!((least - 0.5).abs() < 1e-6 && (most - 0.5).abs() < 1e-6, "{least} to {most}");
    }
}
