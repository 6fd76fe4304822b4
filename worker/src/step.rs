//! One step of training, seen from a worker: a function a stage, in the order in which the coordinator asks.
//!
//! `Rollout → RolloutsReady`, then (scored by the coordinator) `Update → StepReady`, then `Commit → Applied`.

use proto::v1::{Applied, Commit, Evaluate, Evaluated, Rollout, RolloutsReady, StepReady, Update};
use settings::StageKind;

use crate::bench::{Bench, Stopped, part};
use crate::draw::{draw, judge};
use crate::heap;

/// Samples → pictures and prompts → K responses each.
///
/// # Errors
/// If the order does not fit the stage. A sample that cannot be read is reported in its place instead.
pub fn rollout(bench: &mut Bench, order: Rollout) -> Result<RolloutsReady, Stopped> {
    let sampling = order.sampling.ok_or_else(|| Stopped::work("a rollout without sampling parameters"))?;
    bench.gather()?;
    let samples = draw(bench, order.samples, &sampling, order.step, order.attempt);
    bench.release();
    let samples = samples?;
    Ok(RolloutsReady { step: order.step, attempt: order.attempt, samples })
}

/// Completions with advantages (or targets) → loss → gradients, summed over all ranks. Nothing is applied.
///
/// # Errors
/// If an item cannot be read or does not fit, or a collective fails.
pub fn update(bench: &mut Bench, order: Update) -> Result<StepReady, Stopped> {
    let counts = bench.counts(order.counts)?;
    let items = bench.items(order.items)?;
    let prepared = bench.prepare(&items, counts, order.lr)?;
    let peak = heap::peak_bytes().map(|bytes| ("max_peak_bytes".to_owned(), bytes as f64));
    Ok(StepReady {
        step: order.step,
        attempt: order.attempt,
        loss: prepared.loss,
        grad_norm: prepared.grad_norm,
        finite: prepared.finite,
        metrics: prepared.metrics.into_iter().chain(peak).collect(),
    })
}

/// The prepared step is applied, or let pass; the digest over the master weights says with what result.
///
/// # Errors
/// If no step was prepared.
pub fn commit(bench: &mut Bench, order: Commit) -> Result<Applied, Stopped> {
    bench.trainer()?.commit(order.skip).map_err(Stopped::from)?;
    let trainer = bench.trainer()?;
    Ok(Applied { step: order.step, digest: trainer.digest(), part: Some(part(trainer)) })
}

/// Responses to held-out samples, or in a vision stage what its head says of them.
///
/// # Errors
/// As [`rollout`].
pub fn evaluate(bench: &mut Bench, order: Evaluate) -> Result<Evaluated, Stopped> {
    bench.gather()?;
    let samples = if bench.stage()?.kind == StageKind::Vision {
        judge(bench, order.samples)
    } else {
        let sampling =
            order.sampling.ok_or_else(|| Stopped::work("an evaluation without sampling parameters"))?;
        draw(bench, order.samples, &sampling, order.step, 0)
    };
    bench.release();
    let samples = samples?;
    Ok(Evaluated { step: order.step, samples })
}
