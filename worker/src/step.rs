//! One step of training, seen from a worker: a function a stage, in the order in which the coordinator asks.
//!
//! `Rollout → RolloutsReady`, then (scored by the coordinator) `Update → StepReady`, then `Commit → Applied`.

use proto::v1::{
    Applied, Commit, Discard, Evaluate, Evaluated, Held, Prepared, Rollout, RolloutsReady, StepReady, Update,
};
use settings::{Phase, StageKind};

use crate::applied::AppliedStep;
use crate::bench::{Bench, Stopped, part};
use crate::draw::{draw, judge};
use crate::heap;

/// The draws of a rollout are those of its first attempt: what is repeated after a loss is the same again.
const DRAWN_AS: u32 = 1;

/// Samples → pictures and prompts → K responses each.
///
/// # Errors
/// If the order does not fit the stage. A sample that cannot be read is reported in its place instead.
pub fn rollout(bench: &mut Bench, order: Rollout) -> Result<RolloutsReady, Stopped> {
    let sampling = order.sampling.ok_or_else(|| Stopped::work("a rollout without sampling parameters"))?;
    let wanted = Prepared { step: order.step, attempt: order.attempt };
    if bench.control.held().is_some_and(|held| held.prepared.is_some_and(|ready| ready != wanted)) {
        bench.forget_prepared();
    }
    bench.gather()?;
    bench.progress.enter("reading");
    bench.faults.strike_on(order.samples.iter().map(|sample| sample.id.as_str()), Phase::Rollout);
    let (faults, step) = (bench.faults.clone(), order.step);
    let drawing = || faults.strike(step, Phase::Rollout);
    let samples = draw(bench, order.samples, &sampling, step, DRAWN_AS, drawing);
    bench.release();
    let samples = samples?;
    Ok(RolloutsReady { step: order.step, attempt: order.attempt, samples })
}

/// Completions with advantages (or targets) → loss → gradients, summed over all ranks. Nothing is applied.
///
/// # Errors
/// If an item cannot be read or does not fit, or a collective fails.
pub fn update(bench: &mut Bench, order: Update) -> Result<StepReady, Stopped> {
    bench.forget_prepared();
    let counts = bench.counts(order.counts)?;
    let samples: Vec<String> =
        order.items.iter().filter_map(|item| Some(item.sample.as_ref()?.id.clone())).collect();
    let items = bench.items(order.items)?;
    bench.faults.strike_on(samples.iter().map(String::as_str), Phase::Update);
    let prepared = bench.prepare(order.step, &items, counts, order.lr)?;
    bench.share = samples;
    let ready = Prepared { step: order.step, attempt: order.attempt };
    bench.control.hold(bench.control.held().map(|held| Held { prepared: Some(ready), ..held }));
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

/// The prepared step is applied, or let pass; the digest over the master weights says with what result. A step that
/// is applied already is not applied again: a coordinator that was restarted asks for it once more. Free of
/// collectives.
///
/// # Errors
/// If it is neither applied nor prepared.
pub fn commit(bench: &mut Bench, order: Commit) -> Result<Applied, Stopped> {
    let Commit { step, skip, attempt } = order;
    let held = bench.control.held();
    if held.is_none_or(|held| held.step != step) {
        let held = held.filter(|held| held.prepared == Some(Prepared { step, attempt }));
        let held = held.ok_or_else(|| Stopped::work(not_prepared(bench, order)))?;
        bench.trainer()?.commit(skip).map_err(Stopped::from)?;
        bench.control.hold(Some(Held { step, prepared: None, attempt, ..held }));
        let samples = std::mem::take(&mut bench.share);
        let (incarnation, term) = (bench.now.1.incarnation(), bench.now.1.term());
        bench.applied.applied(&AppliedStep { step, attempt, skip, incarnation, term, samples: &samples });
    }
    let trainer = bench.trainer()?;
    Ok(Applied { step, digest: trainer.digest(), part: Some(part(trainer)) })
}

/// Why a commit cannot be.
fn not_prepared(bench: &Bench, Commit { step, attempt, .. }: Commit) -> String {
    let held = match bench.control.held() {
        None => "nothing".to_owned(),
        Some(Held { stage, step, prepared: None, .. }) => {
            format!("step {step} of stage {stage}, none prepared")
        }
        Some(Held { stage, step, prepared: Some(ready), .. }) => format!(
            "step {step} of stage {stage}, with attempt {} at step {} prepared",
            ready.attempt, ready.step
        ),
    };
    format!("attempt {attempt} at step {step} cannot be committed: this worker holds {held}")
}

/// The prepared step is forgotten, if it is this one.
pub fn discard(bench: &mut Bench, order: Discard) {
    let held = bench.control.held().and_then(|held| held.prepared);
    if held.is_some_and(|ready| ready.step == order.step) {
        bench.forget_prepared();
    }
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
        draw(bench, order.samples, &sampling, order.step, 0, || {})
    };
    bench.release();
    let samples = samples?;
    Ok(Evaluated { step: order.step, samples })
}
