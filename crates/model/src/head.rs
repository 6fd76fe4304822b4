//! From final hidden states to log-probabilities, a chunk of rows at a time: the logits of all tokens are never held.

use tch::{Kind, Tensor, no_grad_guard};

use crate::ops::project;

/// Log-probabilities `[r]` in f32 of `targets` `[r]` under the full softmax at temperature 1 of `hidden`
/// `[r, hidden]`, differentiable; holds `[r, vocabulary]`.
pub fn chunk_logprobs(hidden: &Tensor, weight: &Tensor, targets: &Tensor) -> Tensor {
    let logits = project(hidden, weight).to_kind(Kind::Float);
    let picked = logits.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
    picked - logits.logsumexp([1_i64].as_slice(), false)
}

/// As [`chunk_logprobs`] over any number of rows, without gradients, `chunk` rows at a time.
///
/// # Panics
/// If `chunk` is not positive.
pub fn logprobs(hidden: &Tensor, weight: &Tensor, targets: &Tensor, chunk: i64) -> Tensor {
    let _guard = no_grad_guard();
    if targets.numel() == 0 {
        return Tensor::zeros([0], (Kind::Float, hidden.device()));
    }
    let parts: Vec<Tensor> = hidden
        .split(chunk, 0)
        .iter()
        .zip(targets.split(chunk, 0))
        .map(|(hidden, targets)| chunk_logprobs(hidden, weight, &targets))
        .collect();
    Tensor::cat(&parts, 0)
}
