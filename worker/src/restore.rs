//! State that comes from elsewhere: from the member that has it, or from a checkpoint.

use std::path::Path;

use proto::v1::restore::Source;
use proto::v1::{Held, Restore, Restored};
use train::Seat;

use crate::bench::{Bench, Stopped, part};

/// Brings this rank to the state after the order's step; every rank takes part.
///
/// # Errors
/// If the stage is none of the recipe's, this rank is to give what it does not hold, the checkpoint cannot be read, or
/// a collective fails. What was to be replaced is then gone.
pub fn restore(bench: &mut Bench, order: Restore) -> Result<Restored, Stopped> {
    let Restore { stage, step, source } = order;
    bench.progress.enter("restoring");
    bench.forget_prepared();
    match source {
        Some(Source::Member(source)) => heal(bench, stage, step, source as usize)?,
        Some(Source::Checkpoint(folder)) => load(bench, stage, Path::new(&folder))?,
        None => return Err(Stopped::work("state is to be restored, and from where is not said")),
    }
    bench.control.hold(Some(Held { stage, step, prepared: None }));
    bench.applied.restored(step);
    let trainer = bench.trainer()?;
    Ok(Restored { stage, step, digest: trainer.digest(), part: Some(part(trainer)) })
}

/// From the member that holds it.
fn heal(bench: &mut Bench, stage: u32, step: u64, source: usize) -> Result<(), Stopped> {
    let gives = bench.world.group().map_err(Stopped::Collective)?.rank() == source;
    let held = bench.control.held();
    if gives && held.is_none_or(|held| (held.stage, held.step) != (stage, step)) {
        let held = held.map_or("nothing".to_owned(), |h| format!("step {} of stage {}", h.step, h.stage));
        return Err(Stopped::work(format!(
            "this rank is to give the state after step {step} of stage {stage}, and holds {held}"
        )));
    }
    if !gives {
        bench.control.hold(None);
    }
    if held.is_none_or(|held| held.stage != stage) {
        bench.begin_afresh(bench.recipe_stage(stage)?)?;
    }
    let healed = receive(bench, source);
    if healed.is_err() && !gives {
        // Half of it is another's.
        (bench.stage, bench.model) = (None, None);
    }
    healed
}

fn receive(bench: &mut Bench, source: usize) -> Result<(), Stopped> {
    let progress = bench.progress.clone();
    let group = bench.world.group().map_err(Stopped::Collective)?;
    let (_, trainer) = bench.model.as_mut().ok_or_else(|| Stopped::work("no stage to restore"))?;
    Ok(trainer.heal(source, group, &mut || progress.advance())?)
}

/// From a checkpoint with the optimizer's state, which any number of ranks wrote.
fn load(bench: &mut Bench, stage: u32, folder: &Path) -> Result<(), Stopped> {
    let held = bench.control.held();
    bench.control.hold(None);
    let seat = Seat::in_group(bench.world.group().map_err(Stopped::Collective)?);
    let fits = bench.model.as_ref().is_some_and(|(_, trainer)| trainer.seat() == seat);
    if !fits || held.is_none_or(|held| held.stage != stage) {
        bench.begin_afresh(bench.recipe_stage(stage)?)?;
    }
    Ok(bench.trainer()?.load_state(folder)?)
}
