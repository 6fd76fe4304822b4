//! The loss of tokens from their log-probabilities: the policy objective (docs/method.md section 3) and
//! weighted cross-entropy.

use settings::{Kl, Objective};
use tch::{Kind, Tensor};

use crate::metrics::Sums;

/// What the policy loss needs to know of tokens, beside their log-probabilities; each f32 `[tokens]`.
#[derive(Debug)]
pub(crate) struct PolicyTokens {
    /// The completion's advantage.
    pub(crate) advantage: Tensor,
    /// What the token's loss is multiplied by: the normalisation, see [`grpo::Counts::token_weight`].
    pub(crate) weight: Tensor,
    /// log π_old; not a number where this forward pass, detached, is to stand for it.
    pub(crate) old: Tensor,
    /// log π as the rollout computed it; not a number where it is not known.
    pub(crate) rollout: Tensor,
    /// log π_ref; none where β is 0.
    pub(crate) reference: Option<Tensor>,
}

impl PolicyTokens {
    /// Tokens `start..start + len`.
    pub(crate) fn narrow(&self, start: i64, len: i64) -> Self {
        let part = |t: &Tensor| t.narrow(0, start, len);
        Self {
            advantage: part(&self.advantage),
            weight: part(&self.weight),
            old: part(&self.old),
            rollout: part(&self.rollout),
            reference: self.reference.as_ref().map(part),
        }
    }

    /// Sum of the tokens' weighted losses, a scalar with a graph to `logprobs` (f32 `[tokens]`), and what the
    /// tokens add to the step's metrics.
    pub(crate) fn loss(&self, logprobs: &Tensor, objective: &Objective) -> (Tensor, Sums) {
        let old = logprobs.detach().where_self(&self.old.isnan(), &self.old);
        let unknown = self.rollout.isnan();
        let ratio = (logprobs - &old).exp();
        let clipped = ratio.clamp(1.0 - objective.epsilon_low, 1.0 + objective.epsilon_high);
        let gain = (&ratio * &self.advantage).minimum(&(&clipped * &self.advantage));
        let mut loss = -gain;
        let mut sums = Sums::of_tokens(logprobs.numel());
        if let Some(cap) = objective.importance_cap {
            let importance = (&old - &self.rollout).exp().clamp_max(cap);
            let importance = importance.ones_like().where_self(&unknown, &importance);
            sums.add("importance", &importance);
            loss *= importance;
        }
        if let Some(reference) = &self.reference {
            let kl = kl(&(reference - logprobs), objective.kl);
            sums.add("kl", &kl);
            loss += kl * objective.beta;
        }
        let bounded = (&clipped * &self.advantage).lt_tensor(&(&ratio * &self.advantage));
        let gap = (logprobs.detach() - &self.rollout).abs();
        let gap = gap.zeros_like().where_self(&unknown, &gap);
        sums.add("clipped", &bounded);
        sums.add("ratio", &ratio);
        sums.add("entropy", &-logprobs);
        sums.add("logprob_gap", &gap);
        sums.max("logprob_gap", &gap);
        ((loss * &self.weight).sum(Kind::Float), sums)
    }
}

/// Estimators of KL(π ‖ π_ref) a token from Δ = log π_ref − log π (docs/method.md section 3).
fn kl(delta: &Tensor, estimator: Kl) -> Tensor {
    match estimator {
        Kl::K1 => -delta,
        Kl::K2 => delta.square() * 0.5,
        Kl::K3 => delta.expm1() - delta,
    }
}

/// Weighted cross-entropy: the sum of −weight · log-probability, a scalar with a graph to `logprobs`
/// (f32 `[tokens]`); `weight` is already divided by the sum of weights over all ranks.
pub(crate) fn cross_entropy(logprobs: &Tensor, weight: &Tensor) -> (Tensor, Sums) {
    let mut sums = Sums::of_tokens(logprobs.numel());
    sums.add("entropy", &-logprobs);
    (-(logprobs * weight).sum(Kind::Float), sums)
}
