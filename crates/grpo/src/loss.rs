//! The policy loss of one token.

use settings::{Kl, Objective};

/// Log-probabilities of one completion token, natural, of the full softmax at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// Under the policy.
    pub logprob: f64,
    /// Under the policy that drew it; with one iteration a rollout it equals `logprob`.
    pub old_logprob: f64,
    /// As the rollout computed it; needed where the objective caps importance weights.
    pub rollout_logprob: Option<f64>,
    /// Under the reference policy; not needed where β = 0.
    pub reference_logprob: Option<f64>,
}

/// What one token adds to the loss, before normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLoss {
    /// policy + β · kl.
    pub loss: f64,
    /// −min(ρA, clip(ρ)A), times the importance weight where the objective has a cap.
    pub policy: f64,
    /// The estimate of KL(π ‖ π_ref); 0 without a reference.
    pub kl: f64,
    /// ρ = exp(logπ − logπ_old).
    pub ratio: f64,
    /// Whether the clipped term is the smaller: then `policy` has no gradient.
    pub clipped: bool,
    /// d loss / d logπ.
    pub gradient: f64,
}

impl Token {
    /// `−min(ρA, clip(ρ, 1 − ε_low, 1 + ε_high)A) + β·KL` (docs/method.md section 3).
    ///
    /// With Δ = logπ_ref − logπ: k1 is −Δ, k2 is Δ²/2, k3 is e^Δ − Δ − 1, computed as expm1(Δ) − Δ.
    #[must_use]
    pub fn loss(&self, advantage: f64, objective: &Objective) -> TokenLoss {
        let ratio = (self.logprob - self.old_logprob).exp();
        let within = ratio.clamp(1.0 - objective.epsilon_low, 1.0 + objective.epsilon_high);
        let clipped = within * advantage < ratio * advantage;
        let policy = self.importance(objective) * -if clipped { within } else { ratio } * advantage;
        let (kl, kl_gradient) = match self.reference_logprob {
            Some(reference) => kl(objective.kl, reference - self.logprob),
            None => (0.0, 0.0),
        };
        TokenLoss {
            loss: policy + objective.beta * kl,
            policy,
            kl,
            ratio,
            clipped,
            gradient: if clipped { 0.0 } else { policy } + objective.beta * kl_gradient,
        }
    }

    /// min(cap, π_old / π_rollout): rollouts and training round differently. 1 without a cap.
    fn importance(&self, objective: &Objective) -> f64 {
        match (objective.importance_cap, self.rollout_logprob) {
            (Some(cap), Some(rollout)) => (self.old_logprob - rollout).exp().min(cap),
            _ => 1.0,
        }
    }
}

/// The estimate and its derivative by logπ.
fn kl(estimator: Kl, delta: f64) -> (f64, f64) {
    match estimator {
        Kl::K1 => (-delta, 1.0),
        Kl::K2 => (delta * delta / 2.0, -delta),
        Kl::K3 => (delta.exp_m1() - delta, -delta.exp_m1()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn objective(kl: Kl, beta: f64) -> Objective {
        Objective { kl, beta, ..Objective::default() }
    }

    fn token(logprob: f64, old_logprob: f64, reference: f64) -> Token {
        Token { logprob, old_logprob, rollout_logprob: None, reference_logprob: Some(reference) }
    }

    #[test]
    fn one_iteration_gives_minus_the_advantage_and_its_gradient() {
        let loss = token(-1.5, -1.5, -1.5).loss(0.7, &Objective::default());
        let expected =
            TokenLoss { loss: -0.7, policy: -0.7, kl: 0.0, ratio: 1.0, clipped: false, gradient: -0.7 };
        assert_eq!(loss, expected);
    }

    #[test]
    fn the_ratio_is_clipped_on_the_side_where_the_advantage_pays() {
        let at = |ratio: f64, advantage| token(ratio.ln(), 0.0, 0.0).loss(advantage, &objective(Kl::K3, 0.0));
        assert!((at(1.5, 1.0).policy + 1.2).abs() < 1e-12);
        assert!(at(1.5, 1.0).clipped);
        assert!((at(1.5, -1.0).policy - 1.5).abs() < 1e-12);
        assert!(!at(1.5, -1.0).clipped);
        assert!((at(0.5, -1.0).policy - 0.8).abs() < 1e-12);
        assert!(at(0.5, -1.0).clipped);
        assert!((at(0.5, 1.0).policy + 0.5).abs() < 1e-12);
    }

    #[test]
    fn every_estimator_is_its_formula_and_k3_keeps_tiny_differences() {
        let value = |estimator, delta| kl(estimator, delta).0;
        assert_eq!(value(Kl::K1, 0.3), -0.3);
        assert_eq!(value(Kl::K2, 0.5), 0.125);
        assert!((value(Kl::K3, 0.3) - (0.3f64.exp() - 0.3 - 1.0)).abs() < 1e-15);
        // e^Δ − 1 as written would leave nothing of Δ²/2.
        assert!((value(Kl::K3, 1e-6) / 5e-13 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn without_a_reference_there_is_no_kl() {
        let token =
            Token { logprob: -1.0, old_logprob: -1.0, rollout_logprob: None, reference_logprob: None };
        let loss = token.loss(1.0, &Objective::default());
        assert_eq!((loss.kl, loss.loss), (0.0, -1.0));
    }

    #[test]
    fn a_token_that_the_rollout_found_unlikelier_weighs_more_up_to_the_cap() {
        let at = |rollout: f64, cap| {
            let token = Token { rollout_logprob: Some(rollout), ..token(-1.0, -1.0, -1.0) };
            token.loss(1.0, &Objective { importance_cap: cap, ..objective(Kl::K3, 0.0) })
        };
        assert!((at(-1.5, Some(2.0)).policy + 0.5f64.exp()).abs() < 1e-12);
        assert!((at(-0.5, Some(2.0)).gradient + (-0.5f64).exp()).abs() < 1e-12);
        assert_eq!(at(-9.0, Some(2.0)).policy, -2.0);
        assert_eq!(at(-9.0, None).policy, -1.0);
    }

    proptest! {
        #[test]
        fn the_gradient_is_the_slope_of_the_loss(
            logprob in -5.0f64..0.0, old in -5.0f64..0.0, reference in -5.0f64..0.0, advantage in -2.0f64..2.0,
            kl in prop_oneof![Just(Kl::K1), Just(Kl::K2), Just(Kl::K3)],
        ) {
            let objective = objective(kl, 0.04);
            let at = |logprob| token(logprob, old, reference).loss(advantage, &objective);
            let h = 1e-6;
            // The corners of the clip have no slope.
            prop_assume!(at(logprob - h).clipped == at(logprob + h).clipped);
            let slope = (at(logprob + h).loss - at(logprob - h).loss) / (2.0 * h);
            let gradient = at(logprob).gradient;
            prop_assert!((slope - gradient).abs() < 1e-5 * (1.0 + gradient.abs()), "{slope} {gradient}");
        }

        #[test]
        fn k2_and_k3_are_never_negative(delta in -20.0f64..20.0) {
            prop_assert!(kl(Kl::K2, delta).0 >= 0.0);
            prop_assert!(kl(Kl::K3, delta).0 >= 0.0);
        }
    }
}
