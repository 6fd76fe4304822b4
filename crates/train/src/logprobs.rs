//! Head and log-softmax in chunks: no tensor of (all tokens × vocabulary) ever exists.
//!
//! A chunk's logits live only while its loss is taken and its gradient computed; forward and backward of the
//! head are one pass.

use tch::{Kind, Tensor, no_grad_guard};

use crate::metrics::Sums;

/// Values of one chunk's logits; the largest tensors here are this long.
const CHUNK_VALUES: i64 = 1 << 24;

/// Tokens a chunk, for a head `[vocabulary, hidden]`.
pub(crate) fn chunk_rows(head: &Tensor) -> i64 {
    (CHUNK_VALUES / head.size()[0].max(1)).max(16)
}

/// What the head reads: hidden states and the tokens that they predict.
#[derive(Debug)]
pub(crate) struct Predictions<'a> {
    /// In compute type, `[tokens, hidden]`, detached.
    pub(crate) hidden: &'a Tensor,
    /// The head, in compute type, `[vocabulary, hidden]`, detached.
    pub(crate) head: &'a Tensor,
    /// Token ids, i64 `[tokens]`.
    pub(crate) targets: &'a Tensor,
    /// Tokens a chunk, see [`chunk_rows`].
    pub(crate) rows: i64,
}

impl Predictions<'_> {
    /// Loss and gradients. `loss` is given the first token of a chunk and the chunk's log-probabilities (f32
    /// `[chunk]`, with gradient tracking), and gives the chunk's summed loss. Returns the whole loss (scalar) and
    /// its gradient by `hidden` (compute type). The head's gradient of every chunk goes to `head_gradient`,
    /// which adds it up in f32; without one it is not computed.
    pub(crate) fn backward(
        &self,
        mut loss: impl FnMut(i64, &Tensor) -> (Tensor, Sums),
        mut head_gradient: Option<&mut dyn FnMut(&Tensor)>,
    ) -> (Tensor, Tensor, Sums) {
        let (kind, device) = (self.hidden.kind(), self.hidden.device());
        let mut total = Tensor::zeros([0_i64; 0], (Kind::Float, device));
        let mut d_hidden = Vec::new();
        let mut sums = Sums::default();
        let (tokens, rows) = (self.hidden.size()[0], self.rows.max(1));
        for start in (0..tokens).step_by(rows as usize) {
            let len = rows.min(tokens - start);
            let targets = self.targets.narrow(0, start, len);
            let hidden = self.hidden.narrow(0, start, len);
            let (mut softmax, logprobs) = self.chunk(&hidden, &targets);
            let logprobs = logprobs.set_requires_grad(true);
            let (part, part_sums) = loss(start, &logprobs);
            part.backward();
            sums.absorb(part_sums);
            let _guard = no_grad_guard();
            total += part.detach();
            // d logp(target) / d logits = onehot(target) − softmax.
            let g = logprobs.grad().unsqueeze(1);
            let _ = softmax.g_mul_(&-&g).scatter_add_(1, &targets.unsqueeze(1), &g);
            let d_logits = softmax.to_kind(kind);
            d_hidden.push(d_logits.matmul(self.head));
            if let Some(accumulate) = head_gradient.as_deref_mut() {
                accumulate(&d_logits.tr().matmul(&hidden));
            }
        }
        let d_hidden = if d_hidden.is_empty() { self.hidden.zeros_like() } else { Tensor::cat(&d_hidden, 0) };
        (total, d_hidden, sums)
    }

    /// Softmax `[chunk, vocabulary]` and the targets' log-probabilities `[chunk]`, f32, detached; the latter are
    /// bit for bit those of [`model::head::chunk_logprobs`].
    fn chunk(&self, hidden: &Tensor, targets: &Tensor) -> (Tensor, Tensor) {
        let _guard = no_grad_guard();
        let mut logits = hidden.linear(self.head, None::<&Tensor>).to_kind(Kind::Float);
        let picked = logits.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
        let total = logits.logsumexp([1_i64].as_slice(), false);
        let _ = logits.g_sub_(&total.unsqueeze(1)).exp_();
        (logits, picked - total)
    }
}
