//! State that comes from elsewhere: from the member that has it, or from a checkpoint.

use std::path::Path;

use proto::v1::restore::Source;
use proto::v1::{Held, Mirrored, Restore, Restored};
use train::Seat;

use crate::bench::{Bench, Stopped, part};

/// Brings this rank to the state after the order's step; every rank takes part.
///
/// # Errors
/// If the stage is none of the recipe's, this rank is to give what it does not hold, the checkpoint cannot be read, or
/// a collective fails. What was to be replaced is then gone.
pub fn restore(bench: &mut Bench, order: Restore) -> Result<Restored, Stopped> {
    let Restore { stage, step, source, attempt } = order;
    bench.progress.enter("restoring");
    bench.forget_prepared();
    let before = sent(bench)?;
    match source {
        Some(Source::Member(source)) => heal(bench, stage, step, source as usize)?,
        Some(Source::Checkpoint(folder)) => load(bench, stage, Path::new(&folder))?,
        Some(Source::Mirrored(Mirrored { lost })) => {
            give_back(bench, stage, step, &lost.into_iter().map(|rank| rank as usize).collect::<Vec<_>>())?;
        }
        None => return Err(Stopped::work("state is to be restored, and from where is not said")),
    }
    bench.control.hold(Some(Held { stage, step, prepared: None, attempt }));
    bench.applied.restored(step, bench.now.1.incarnation());
    let sent = sent(bench)? - before;
    let trainer = bench.trainer()?;
    Ok(Restored { stage, step, digest: trainer.digest(), part: Some(part(trainer)), sent })
}

/// Bytes that this rank has sent in the epoch.
fn sent(bench: &Bench) -> Result<u64, Stopped> {
    Ok(bench.world.group().map_err(Stopped::Collective)?.sent().total())
}

/// To those of `lost` from the ranks that mirror them; the others keep theirs.
fn give_back(bench: &mut Bench, stage: u32, step: u64, lost: &[usize]) -> Result<(), Stopped> {
    let is_lost = lost.contains(&bench.world.group().map_err(Stopped::Collective)?.rank());
    if is_lost {
        bench.control.hold(None);
        bench.begin_afresh(bench.recipe_stage(stage)?)?;
    } else {
        holds(bench, stage, step)?;
    }
    let by = bench.world.mirror();
    let progress = bench.progress.clone();
    let group = bench.world.group().map_err(Stopped::Collective)?;
    let (_, trainer) = bench.model.as_mut().ok_or_else(|| Stopped::work("no stage to restore"))?;
    trainer.mirror_by(by);
    let given = trainer.give_back(lost, group, &mut || progress.advance());
    if given.is_err() && is_lost {
        // Half of it is the stage's start.
        (bench.stage, bench.model) = (None, None);
    }
    Ok(given?)
}

/// Holds this rank to having what it is to give, or to keep.
fn holds(bench: &Bench, stage: u32, step: u64) -> Result<(), Stopped> {
    let held = bench.control.held();
    if held.is_some_and(|held| (held.stage, held.step) == (stage, step)) {
        return Ok(());
    }
    let held = held.map_or("nothing".to_owned(), |h| format!("step {} of stage {}", h.step, h.stage));
    Err(Stopped::work(format!(
        "this rank is to give the state after step {step} of stage {stage}, and holds {held}"
    )))
}

/// From the member that holds it.
fn heal(bench: &mut Bench, stage: u32, step: u64, source: usize) -> Result<(), Stopped> {
    let gives = bench.world.group().map_err(Stopped::Collective)?.rank() == source;
    let held = bench.control.held();
    if gives {
        holds(bench, stage, step)?;
    } else {
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
