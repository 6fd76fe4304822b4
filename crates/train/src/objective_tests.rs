//! The tensor loss against the plain numbers of `grpo`, and chunks against the whole.

use settings::{Kl, Objective};
use tch::{Kind, Tensor};

use crate::logprobs::Predictions;
use crate::metrics::Sums;
use crate::objective::PolicyTokens;
use crate::testing::{Draws, distance};

#[test]
fn every_tokens_loss_and_gradient_are_the_published_formulas() {
    let mut draws = Draws(3);
    let n = 64;
    let mut values = || Vec::<f32>::try_from(draws.tensor(&[n])).expect("f32");
    let (logprobs, advantage, weight) = (values(), values(), values());
    let (mut old, reference, mut rollout) = (values(), values(), values());
    (old[5], rollout[7]) = (f32::NAN, f32::NAN);
    for (kl, importance_cap) in [(Kl::K1, None), (Kl::K2, Some(1.5)), (Kl::K3, Some(0.5))] {
        let objective = Objective { kl, beta: 0.3, importance_cap, ..Objective::default() };
        let tokens = PolicyTokens {
            advantage: Tensor::from_slice(&advantage),
            weight: Tensor::from_slice(&weight),
            old: Tensor::from_slice(&old),
            rollout: Tensor::from_slice(&rollout),
            reference: Some(Tensor::from_slice(&reference)),
        };
        let leaf = Tensor::from_slice(&logprobs).set_requires_grad(true);
        let (loss, sums) = tokens.loss(&leaf, &objective);
        loss.backward();
        let (mut expected, mut kl_sum, mut clipped, mut gap) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..n as usize {
            let old_logprob = f64::from(if old[i].is_nan() { logprobs[i] } else { old[i] });
            let token = grpo::Token {
                logprob: f64::from(logprobs[i]),
                old_logprob,
                rollout_logprob: (!rollout[i].is_nan()).then_some(f64::from(rollout[i])),
                reference_logprob: Some(f64::from(reference[i])),
            };
            let one = token.loss(f64::from(advantage[i]), &objective);
            expected += one.loss * f64::from(weight[i]);
            kl_sum += one.kl;
            gap += token.rollout_logprob.map_or(0.0, |rollout| (token.logprob - rollout).abs());
            clipped += f64::from(u8::from(one.clipped));
            let (got, want) = (leaf.grad().double_value(&[i as i64]), one.gradient * f64::from(weight[i]));
            assert!((got - want).abs() < 2e-6, "token {i}: {got} {want}");
        }
        assert!((loss.double_value(&[]) - expected).abs() < 1e-5, "{kl:?}");
        let metrics = sums.read();
        assert!((metrics["kl"] - kl_sum).abs() < 1e-4);
        assert!((metrics["logprob_gap"] - gap).abs() < 1e-4);
        assert_eq!(metrics.contains_key("importance"), importance_cap.is_some());
        assert_eq!(metrics["clipped"], clipped);
        assert_eq!(metrics["tokens"], n as f64);
    }
}

#[test]
fn chunks_of_the_head_give_the_loss_and_gradients_of_the_whole() {
    let mut draws = Draws(4);
    let hidden = draws.tensor(&[10, 8]).set_requires_grad(true);
    let head = draws.tensor(&[20, 8]).set_requires_grad(true);
    let targets = Tensor::from_slice(&[3_i64, 19, 0, 7, 7, 1, 2, 3, 4, 5]);
    let weight = draws.tensor(&[10]);
    let whole = (model::head::chunk_logprobs(&hidden, &head, &targets) * &weight).sum(Kind::Float);
    whole.backward();
    for rows in [1, 3, 10, 64] {
        let (detached, head_detached) = (hidden.detach(), head.detach());
        let predictions = Predictions { hidden: &detached, head: &head_detached, targets: &targets, rows };
        let mut d_head = head_detached.zeros_like();
        let mut add = |gradient: &Tensor| d_head += gradient;
        let weighted = |start: i64, logprobs: &Tensor| {
            ((logprobs * weight.narrow(0, start, logprobs.size()[0])).sum(Kind::Float), Sums::default())
        };
        let (loss, d_hidden, _) = predictions.backward(weighted, Some(&mut add));
        assert!((loss.double_value(&[]) - whole.double_value(&[])).abs() < 1e-5);
        assert!(distance(&d_hidden, &hidden.grad()) < 1e-6, "{rows} rows a chunk");
        assert!(distance(&d_head, &head.grad()) < 1e-6, "{rows} rows a chunk");
    }
}
