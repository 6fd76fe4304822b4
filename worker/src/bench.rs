//! What a worker works with: its stage, inputs, trainer and place in the world. One thread owns it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use checkpoint::weights::WeightFiles;
use model::{Config, Params, Processor, Qwen};
use proto::v1::{BeginStage, FormEpoch, Held, StageReady, TrainItem};
use settings::{Dtype, Phase, Recompute, Sharding, Stage};
use tch::{Device, Kind};
use train::{Counts, Error, Item, Place, Prepared, Seat, Trainer};

use crate::adapters;
use crate::applied::AppliedLog;
use crate::control::Control;
use crate::faults::{Faults, Striking};
use crate::heap;
use crate::inputs::Inputs;
use crate::progress::Progress;
use crate::session::Stamp;
use crate::world::World;

/// Why an order could not be carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    /// A peer is gone, or silent beyond the deadline: the group is of no more use.
    Collective(String),
    /// Something that would fail again.
    Work(String),
    /// Something of the user's cannot be used: a picture, a weight file.
    Input(String),
}

impl Stopped {
    /// Work that would fail again, and why.
    pub fn work(reason: impl Into<String>) -> Self {
        Self::Work(reason.into())
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        match error {
            Error::Collective(lost) => Self::Collective(lost.to_string()),
            Error::Adapters(reason) => Self::Input(reason),
            other => Self::Work(other.to_string()),
        }
    }
}

/// The state of a worker between orders.
pub struct Bench {
    run: settings::Run,
    device: Device,
    /// Its group and store.
    pub world: World,
    /// What the heartbeats tell.
    pub progress: Progress,
    /// What is held, and which orders still count.
    pub control: Control,
    /// What is to go wrong here.
    pub faults: Faults,
    /// What this worker has applied.
    pub applied: AppliedLog,
    /// The order that is carried out, and where in the run it belongs.
    pub now: (u64, Stamp),
    /// Ids of the prepared step's samples, of this rank's share.
    pub share: Vec<String>,
    pub(crate) stage: Option<Stage>,
    source: PathBuf,
    pub(crate) model: Option<(Inputs, Trainer)>,
}

/// What a bench shares with the session.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What the heartbeats tell.
    pub progress: Progress,
    /// What is held, and which orders still count.
    pub control: Control,
}

impl Bench {
    /// A worker that has joined `run` and knows nothing else yet.
    #[must_use]
    pub fn new(
        run: settings::Run,
        run_id: &str,
        rank: u32,
        device: Device,
        world: World,
        shared: Shared,
    ) -> Self {
        let Shared { progress, control } = shared;
        control.hold(None);
        Self {
            source: run.model.path.clone(),
            faults: Faults::of(&run, run_id, rank),
            applied: AppliedLog::of(&run.run.output, rank),
            run,
            device,
            world,
            progress,
            control,
            now: (0, Stamp::default()),
            share: Vec::new(),
            stage: None,
            model: None,
        }
    }

    /// The recipe as a restarted coordinator has it; what is held stays.
    pub fn adopt(&mut self, run: settings::Run) {
        self.faults = self.faults.of_recipe(&run);
        self.run = run;
    }

    /// Joins an epoch's group, with groups within and across nodes where a stage is sharded by them.
    ///
    /// # Errors
    /// If the store cannot be reached or a peer does not come in time.
    pub fn form(&mut self, epoch: u64, order: &FormEpoch) -> Result<(), Stopped> {
        let by_node = self.run.stages.iter().any(|stage| stage.parallel.sharding == Sharding::Hybrid);
        self.world.form(self.now.0, epoch, order, by_node).map_err(Stopped::Collective)
    }

    /// Whether the order that is carried out has been aborted; for code that has lent out the rest of this.
    pub fn halted(&self) -> impl Fn() -> bool + use<> {
        let (control, number) = (self.control.clone(), self.now.0);
        move || control.is_aborted(number)
    }

    /// The newest step that is applied here.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.control.held().map_or(0, |held| held.step)
    }

    /// The prepared step is of no use any more.
    pub fn forget_prepared(&mut self) {
        if let Some((_, trainer)) = &mut self.model {
            trainer.discard();
        }
        self.share.clear();
        self.control.hold(self.control.held().map(|held| Held { prepared: None, ..held }));
    }

    /// A stage of the recipe.
    ///
    /// # Errors
    /// If it has none of this number.
    pub(crate) fn recipe_stage(&self, number: u32) -> Result<Stage, Stopped> {
        self.run.stages.get(number as usize).cloned().ok_or_else(|| {
            Stopped::work(format!("stage {number} was ordered, the recipe has {}", self.run.stages.len()))
        })
    }

    /// Begins `stage` from the recipe's model with a fresh optimizer. Free of collectives.
    ///
    /// # Errors
    /// If the model cannot be read or does not fit its own configuration.
    pub(crate) fn begin_afresh(&mut self, stage: Stage) -> Result<(), Stopped> {
        // Two models at once may not fit.
        self.model = None;
        spare_memory(&stage);
        self.source = self.run.model.path.clone();
        self.model = Some(self.load(&stage)?);
        self.stage = Some(stage);
        heap::settle();
        Ok(())
    }

    /// Loads weights where the order names some, and begins the stage with a fresh optimizer.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or does not fit its own configuration.
    pub fn begin_stage(&mut self, order: &BeginStage) -> Result<StageReady, Stopped> {
        let stage = self.recipe_stage(order.stage)?;
        // Weights are named where a run begins: what was held of it before is void.
        let before = self.control.held().filter(|_| order.weights.is_empty()).unwrap_or_default();
        self.forget_prepared();
        // A stage that fails to begin leaves nothing that could be gone on with.
        self.control.hold(None);
        spare_memory(&stage);
        match &mut self.model {
            Some((inputs, trainer)) if order.weights.is_empty() => {
                inputs.begin_stage(&stage.data);
                let group = self.world.group().map_err(Stopped::Collective)?;
                trainer.begin_stage(&stage, None, group)?;
            }
            _ => {
                if !order.weights.is_empty() {
                    self.source = PathBuf::from(&order.weights);
                }
                self.model = Some(self.load(&stage)?);
                if !order.state.is_empty() {
                    let loaded = self.trainer()?.load_state(Path::new(&order.state));
                    loaded.map_err(|e| Stopped::Input(e.to_string()))?;
                }
            }
        }
        self.stage = Some(stage);
        heap::settle();
        self.control.hold(Some(Held { stage: order.stage, prepared: None, ..before }));
        let trainer = self.trainer()?;
        Ok(StageReady { stage: order.stage, digest: trainer.digest(), part: Some(part(trainer)) })
    }

    fn load(&self, stage: &Stage) -> Result<(Inputs, Trainer), Stopped> {
        let folder: &Path = &self.source;
        let failed = |e: &dyn std::fmt::Display| Stopped::Input(format!("{}: {e}", folder.display()));
        let config = Config::read(folder).map_err(|e| failed(&e))?;
        let files = WeightFiles::open(folder).map_err(|e| failed(&e))?;
        let mut weights = Params::load(&config, &files, Kind::Float, Device::Cpu).map_err(|e| failed(&e))?;
        adapters::add(stage, folder, &config, &mut weights).map_err(Stopped::Input)?;
        let processor = Processor::read(folder, &config).map_err(|e| failed(&e))?;
        let kind = match self.run.model.dtype {
            Dtype::Bfloat16 => Kind::BFloat16,
            Dtype::Float32 => Kind::Float,
        };
        let model = Qwen::fastest(config, kind, self.device);
        if model.kind != kind {
            tracing::info!(
                "weights are {kind:?}, arithmetic is {:?}: this processor is faster in it",
                model.kind
            );
        }
        let seat = Seat::in_group(self.world.group().map_err(Stopped::Collective)?);
        let seed = self.run.run.seed;
        let trainer = Trainer::seeded(seed, seat, model, weights, stage, 0, self.deadline())?;
        Ok((Inputs::new(processor, &stage.data), trainer))
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.run.recovery.progress)
    }

    /// Whether what another rank owns lies here too, as it is after the step that is held.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.control.held().is_some() && self.model.as_ref().is_some_and(|(_, trainer)| trainer.is_mirrored())
    }

    /// The current stage.
    ///
    /// # Errors
    /// If none has begun.
    pub fn stage(&self) -> Result<&Stage, Stopped> {
        self.stage.as_ref().ok_or_else(no_stage)
    }

    /// The trainer of the current stage.
    ///
    /// # Errors
    /// If none has begun.
    pub fn trainer(&mut self) -> Result<&mut Trainer, Stopped> {
        self.model.as_mut().map(|(_, trainer)| trainer).ok_or_else(no_stage)
    }

    /// Inputs and trainer of the current stage.
    ///
    /// # Errors
    /// If none has begun.
    pub fn tools(&mut self) -> Result<(&mut Inputs, &Trainer), Stopped> {
        self.model.as_mut().map(|(inputs, trainer)| (inputs, &*trainer)).ok_or_else(no_stage)
    }

    /// The folder that the model came from: its configuration and tokenizer go into every export.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The compute type that exports are written in.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.run.checkpoint.dtype.unwrap_or(self.run.model.dtype)
    }

    /// Reads an update's items.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn items(&mut self, items: Vec<TrainItem>) -> Result<Vec<Item>, Stopped> {
        self.progress.enter("reading");
        let progress = self.progress.clone();
        let (inputs, trainer) = self.tools()?;
        inputs.items(items, trainer.model(), || progress.advance()).map_err(Stopped::Input)
    }

    /// Global counts as the trainer takes them.
    ///
    /// # Errors
    /// If the order carries none, or they cannot be divided by.
    pub fn counts(&self, counts: Option<proto::v1::Counts>) -> Result<Counts, Stopped> {
        let counts = counts.ok_or_else(|| Stopped::work("an update without counts"))?;
        let step =
            grpo::Counts { samples: counts.samples, completions: counts.completions, tokens: counts.tokens };
        Ok(Counts { step, answer_weight: counts.weight })
    }

    /// Brings all weights here for a rollout; every rank has to, also without samples of its own.
    ///
    /// # Errors
    /// If a collective fails.
    pub fn gather(&mut self) -> Result<(), Stopped> {
        let group = self.world.group().map_err(Stopped::Collective)?;
        let (_, trainer) = self.model.as_mut().ok_or_else(no_stage)?;
        Ok(trainer.gather(group)?)
    }

    /// Lets go of the weights that a rollout needed.
    pub fn release(&mut self) {
        if let Some((_, trainer)) = &mut self.model {
            trainer.release();
        }
    }

    /// Writes the weights as a Hugging Face directory's files; every rank has to take part where weights are cut.
    ///
    /// # Errors
    /// If a file cannot be written, or a collective fails.
    pub fn export(&mut self, folder: &Path) -> Result<checkpoint::Files, Stopped> {
        let dtype = self.dtype();
        let group = self.world.group().map_err(Stopped::Collective)?;
        let (_, trainer) = self.model.as_mut().ok_or_else(no_stage)?;
        Ok(trainer.export(&self.source, folder, dtype, group)?)
    }

    /// Forward, backward, and the sum over ranks.
    ///
    /// # Errors
    /// If an item does not fit, or a collective fails.
    pub fn prepare(
        &mut self,
        step: u64,
        items: &[Item],
        counts: Counts,
        lr: f64,
    ) -> Result<Prepared, Stopped> {
        self.progress.enter("updating");
        let progress = self.progress.clone();
        let faults = self.faults.clone();
        let group = self.world.group().map_err(Stopped::Collective)?;
        let striking = Striking::new(group, faults.clone(), step);
        let group = if faults.planned(step, Phase::AllReduce) { &striking } else { group };
        let (_, trainer) = self.model.as_mut().ok_or_else(no_stage)?;
        trainer.mirror_by(self.world.mirror());
        let mut advance = || {
            progress.advance();
            faults.strike(step, Phase::Backward);
        };
        Ok(trainer.prepare(items, counts, lr, group, &mut advance)?)
    }
}

/// Whoever shards a model and recomputes wants memory more than time.
fn spare_memory(stage: &Stage) {
    let sharded = matches!(stage.parallel.sharding, Sharding::Full | Sharding::Hybrid);
    heap::spare(sharded && stage.parallel.recompute == Recompute::Blocks);
}

/// What of the weights a trainer owns, as the coordinator hears it.
#[must_use]
pub fn part(trainer: &Trainer) -> proto::v1::Part {
    let Place { index, of } = trainer.part();
    proto::v1::Part { index: index as u32, of: of as u32 }
}

fn no_stage() -> Stopped {
    Stopped::work("work was ordered before a stage began")
}
