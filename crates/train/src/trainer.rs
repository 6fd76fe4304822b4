//! A rank's training: stages, prepared steps, commits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use collective::Group;
use model::{Adapters, Params, Qwen, VisionBatch, is_adapter, run};
use settings::{Optimizer, Stage, StageKind, Trainable};
use tch::{Kind, Tensor, no_grad_guard};

use crate::Error;
use crate::adamw::AdamW;
use crate::blocks::BlockId;
use crate::distortion::{self, Prediction};
use crate::item::Item;
use crate::lora::{self, StepDropout};
use crate::metrics::{Sums, Traffic};
use crate::microbatch::cut;
use crate::mirror::Mirror;
use crate::norm::clip_factor;
use crate::pass::{Counts, Pass};
use crate::reference::Reference;
use crate::sharding::{
    Full, Hybrid, Joined, Place, Ranks, Replicate, Seat, Sharding, Sliced, Weights as _, Widened,
};

/// A step whose gradients are reduced over all ranks and lie ready; nothing is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// This rank's share of the step's loss; the shares' sum over ranks is the loss.
    pub loss: f64,
    /// Norm of the reduced gradient before clipping, the same on every rank.
    pub grad_norm: f64,
    /// Whether loss and norm are finite; otherwise every rank must commit with `skip`.
    pub finite: bool,
    /// Sums over this rank's tokens or pictures by name, and maxima named `max_…`; and bytes that it sent for the step,
    /// by kind of collective (`sent_…`), for gathering the rollout's weights, and of all of them to other nodes.
    pub metrics: BTreeMap<String, f64>,
}

/// What a commit applies.
#[derive(Clone, Copy, Debug)]
struct Pending {
    lr: f64,
    factor: f64,
}

/// One rank's weights, optimizer and current stage. Lives on one thread: libtorch's thread count is that
/// thread's, and tensors are not shared.
pub struct Trainer {
    model: Qwen,
    stage: Stage,
    pub(crate) seat: Seat,
    sharding: Box<dyn Sharding>,
    pub(crate) reference: Option<Reference>,
    pending: Option<Pending>,
    /// Bound on each wait for a collective.
    deadline: Duration,
    /// Names the draws of adapters and of their dropout.
    seed: u64,
    /// Bytes sent to gather the rollout's weights since the last step.
    gathered: u64,
    /// How many places on another rank keeps what this one owns; 0: nobody does.
    pub(crate) mirror_by: usize,
    /// What the rank so many places back owns, from the first step on.
    pub(crate) mirror: Option<Mirror>,
}

impl Trainer {
    /// Begins `stage` in a world of one, see [`Trainer::at`].
    ///
    /// # Errors
    /// If a weight is none of the model's.
    pub fn new(
        model: Qwen,
        weights: Params,
        stage: &Stage,
        threads: u32,
        deadline: Duration,
    ) -> Result<Self, Error> {
        Self::at(Place::ALONE.into(), model, weights, stage, threads, deadline)
    }

    /// Begins `stage` as the rank at `seat`, with `weights` (f32, canonical names, all of them on every rank),
    /// computing on `threads` CPU threads (0: libtorch's own choice). A collective that takes longer than
    /// `deadline` fails the step. Its draws are those of seed 0.
    ///
    /// # Errors
    /// If a weight is none of the model's, or the stage's adapters are no part of it.
    pub fn at(
        seat: Seat,
        model: Qwen,
        weights: Params,
        stage: &Stage,
        threads: u32,
        deadline: Duration,
    ) -> Result<Self, Error> {
        Self::seeded(0, seat, model, weights, stage, threads, deadline)
    }

    /// As [`Trainer::at`], with draws (of fresh adapters, and of what their dropout leaves out) that `seed` names.
    /// `weights` may hold the stage's adapters to start from.
    ///
    /// # Errors
    /// As [`Trainer::at`].
    pub fn seeded(
        seed: u64,
        seat: Seat,
        mut model: Qwen,
        mut weights: Params,
        stage: &Stage,
        threads: u32,
        deadline: Duration,
    ) -> Result<Self, Error> {
        if let Ok(threads @ 1..) = i32::try_from(threads) {
            tch::set_num_threads(threads);
        }
        lora::begin(stage, seed, &mut model, &mut weights)?;
        let reference = Reference::of(stage, &weights, &model, |name| trains(stage, name));
        let sharding = lay_out(weights, &model, stage, seat)?;
        Ok(Self {
            model,
            stage: stage.clone(),
            seat,
            sharding,
            reference,
            pending: None,
            deadline,
            seed,
            gathered: 0,
            mirror_by: 0,
            mirror: None,
        })
    }

    /// Begins a stage: fresh moments, and a reference policy that is its start. Without `weights` it goes on
    /// with those in memory, which all ranks of `group` bring together.
    ///
    /// # Errors
    /// If a weight is none of the model's, or a collective fails.
    pub fn begin_stage(
        &mut self,
        stage: &Stage,
        weights: Option<Params>,
        group: &dyn Group,
    ) -> Result<(), Error> {
        let mut weights = match weights {
            Some(weights) => {
                self.model.adapters = Adapters::none();
                weights
            }
            None => self.weights(group)?,
        };
        lora::begin(stage, self.seed, &mut self.model, &mut weights)?;
        self.reference = Reference::of(stage, &weights, &self.model, |name| trains(stage, name));
        self.sharding = lay_out(weights, &self.model, stage, self.seat)?;
        self.stage = stage.clone();
        self.pending = None;
        self.mirror = None;
        Ok(())
    }

    /// Runs this rank's `items` forward and backward and sums gradients over the ranks of `group`; `progress` is
    /// called after every micro-batch. All ranks must call it for a step, also those without items. A step that
    /// was prepared before and not committed is discarded.
    ///
    /// # Errors
    /// If an item is not of the stage's kind or does not fit the model (then before anything is computed), or
    /// a collective fails.
    pub fn prepare(
        &mut self,
        items: &[Item],
        counts: Counts,
        lr: f64,
        group: &dyn Group,
        progress: &mut dyn FnMut(),
    ) -> Result<Prepared, Error> {
        let (began, mut silent) = (Instant::now(), Duration::ZERO);
        self.pending = None;
        for (index, item) in items.iter().enumerate() {
            item.check(index, self.stage.kind, &self.model.config)?;
        }
        let objective = &self.stage.objective;
        if self.reference.as_ref().is_some_and(|r| r.is_due(objective)) {
            self.sync_reference(group)?;
        }
        let ranks = self.ranks(group)?;
        let traffic = Traffic::from(group);
        let tokens: Vec<usize> = items.iter().map(|item| item.tokens(&self.model.config)).collect();
        let runs = cut(&tokens, self.stage.parallel.token_budget as usize);
        let pictures = items.iter().any(|item| item.pixels().size()[0] > 0);
        let asked = items.iter().any(Item::needs_reference);
        let device = self.model.device;
        let lacks = self.mirror_by > 0 && self.mirror.is_none();
        let here = [runs.len() as i64, i64::from(pictures), i64::from(asked), i64::from(lacks)];
        let [count, pictures, asked, lacking] = ranks.largest(here, device)?;
        if lacking > 0 {
            let mirror = Mirror::exchange(&self.sharding.slices(), lacks, self.mirror_by, &ranks)?;
            self.mirror = mirror.or(self.mirror.take());
        }
        let reference = self.reference.as_ref().filter(|_| asked > 0);
        let (model, stage) = (&self.model, &self.stage);
        let dropout = StepDropout::of(stage, self.seed, self.sharding.steps());
        let pass = Pass { model, stage, reference, counts, pictures: pictures > 0, dropout };
        let sharding = self.sharding.as_mut();
        sharding.reset();
        let mut loss = Tensor::zeros([0_i64; 0], (Kind::Double, device));
        let mut sums = Sums::default();
        for number in 0..count as usize {
            let items = runs.get(number).map_or(&[][..], |run| &items[run.clone()]);
            let last = number + 1 == count as usize;
            let widened = Widened::to(model.kind);
            let mut weights = Joined { sharding: &mut *sharding, widened, ranks, last, closed: None };
            let (part, part_sums) = pass.run(items, &mut weights)?;
            weights.reduce_above(None)?;
            if let Some(closed) = weights.closed.filter(|_| last) {
                silent = closed.duration_since(began);
            }
            sharding.release();
            loss += part.to_kind(Kind::Double);
            sums.absorb(part_sums);
            progress();
        }
        sharding.reduce_above(None, true, &ranks)?;
        sharding.finish(&ranks)?;
        if let Some(mirror) = &mut self.mirror {
            mirror.receive(&sharding.slices(), self.mirror_by, &ranks)?;
        }
        traffic.report(group, &mut sums);
        sums.max("silent_seconds", &Tensor::from(silent.as_secs_f64()));
        sums.count("sent_rollout", std::mem::take(&mut self.gathered) as f64);
        let (loss, grad_norm) = (loss.double_value(&[]), sharding.norm());
        let finite = loss.is_finite() && grad_norm.is_finite();
        self.pending = Some(Pending { lr, factor: clip_factor(grad_norm, self.optimizer().max_grad_norm) });
        Ok(Prepared { loss, grad_norm, finite, metrics: sums.read() })
    }

    /// Applies the prepared step, or with `skip` lets it pass without a change. Free of collectives.
    ///
    /// # Errors
    /// If no step is prepared.
    pub fn commit(&mut self, skip: bool) -> Result<(), Error> {
        let Pending { lr, factor } = self.pending.take().ok_or(Error::NotPrepared)?;
        if !skip {
            self.sharding.apply(&self.stage.optimizer, lr, factor);
            if let Some(mirror) = &self.mirror {
                mirror.apply(&AdamW::at(&self.stage.optimizer, lr, self.sharding.steps()), factor);
            }
        }
        if let Some(reference) = &mut self.reference {
            reference.committed();
        }
        Ok(())
    }

    /// Forgets the prepared step, if there is one.
    pub fn discard(&mut self) {
        self.pending = None;
    }

    /// SHA-256 over the weights of [`Trainer::part`] (masters where trained) in the order of their names, hexadecimal.
    pub fn digest(&mut self) -> String {
        self.sharding.digest()
    }

    /// The part of the weights that this rank owns: ranks of the same part have the same digest.
    #[must_use]
    pub fn part(&self) -> Place {
        self.sharding.part()
    }

    /// Brings all weights here for a rollout, until the next step or [`Trainer::release`]. All ranks must call it.
    ///
    /// # Errors
    /// If a collective fails.
    pub fn gather(&mut self, group: &dyn Group) -> Result<(), Error> {
        let ranks = self.ranks(group)?;
        let before = group.sent();
        self.sharding.gather_all(&ranks)?;
        self.gathered += (group.sent() - before).total();
        Ok(())
    }

    /// Lets go of the weights that a rollout needed.
    pub fn release(&mut self) {
        self.sharding.release();
    }

    /// The model's shapes, compute type and device.
    #[must_use]
    pub fn model(&self) -> &Qwen {
        &self.model
    }

    /// All weights in compute type, for rollouts, after [`Trainer::gather`]; to be used without gradient tracking.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.sharding.all_params()
    }

    /// The last prepared step's reduced gradients before clipping, f32, by canonical name: those that this rank
    /// holds whole, which under `sharding: replicate` are all.
    #[must_use]
    pub fn gradients(&self) -> BTreeMap<String, Tensor> {
        let names = self.sharding.all_params().names();
        names.filter_map(|name| Some((name.to_owned(), self.sharding.gradient(name)?))).collect()
    }

    /// What the throw-away head of a `kind: vision` stage says of pictures (`pixels` as in [`Item`]); none in
    /// other stages, which have no such head.
    #[must_use]
    pub fn predict(&self, pictures: &VisionBatch, pixels: &Tensor) -> Vec<Prediction> {
        if self.stage.kind != StageKind::Vision || pictures.grids.is_empty() {
            return Vec::new();
        }
        let _guard = no_grad_guard();
        let mut links = self.model.vision_chain(pictures);
        links.push(distortion::link(pictures, self.model.config.vision.merge, self.model.device));
        let pixels = pixels.to_device(self.model.device).to_kind(self.model.kind);
        distortion::read(&run(&links, &self.params().as_kind(self.model.kind), &pixels))
    }

    /// Moves the reference policy.
    fn sync_reference(&mut self, group: &dyn Group) -> Result<(), Error> {
        let ranks = self.ranks(group)?;
        let Some(reference) = &mut self.reference else { return Ok(()) };
        let mut weights = Params::new();
        self.sharding.each_weight(&ranks, &mut |name, weight| {
            if reference.follows(name) {
                weights.insert(name, weight);
            }
            Ok(())
        })?;
        reference.follow(weights, self.stage.objective.sync_mixture);
        Ok(())
    }

    /// All weights, masters where trained, without a stage's throw-away head.
    pub(crate) fn weights(&mut self, group: &dyn Group) -> Result<Params, Error> {
        let ranks = self.ranks(group)?;
        let mut weights = Params::new();
        self.sharding.each_weight(&ranks, &mut |name, weight| {
            if !distortion::is_head(name) {
                weights.insert(name, weight);
            }
            Ok(())
        })?;
        Ok(weights)
    }

    /// The ranks of `group`.
    ///
    /// # Errors
    /// If the weights are laid out for another world.
    pub(crate) fn ranks<'a>(&self, group: &'a dyn Group) -> Result<Ranks<'a>, Error> {
        let (here, own) = (Seat::in_group(group), self.seat);
        let fits = match self.stage.parallel.sharding {
            settings::Sharding::Replicate => true,
            settings::Sharding::Optimizer | settings::Sharding::Full => here.world == own.world,
            settings::Sharding::Hybrid => here == own,
        };
        if !fits {
            return Err(Error::OtherWorld { here, own });
        }
        Ok(Ranks { group, deadline: self.deadline })
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(crate) fn sharding(&self) -> &dyn Sharding {
        self.sharding.as_ref()
    }

    pub(crate) fn sharding_mut(&mut self) -> &mut dyn Sharding {
        self.sharding.as_mut()
    }

    fn optimizer(&self) -> &Optimizer {
        &self.stage.optimizer
    }
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer").field("stage", &self.stage.name).finish_non_exhaustive()
    }
}

/// Lays weights out as the stage's `parallel.sharding` says.
fn lay_out(mut weights: Params, model: &Qwen, stage: &Stage, seat: Seat) -> Result<Box<dyn Sharding>, Error> {
    if stage.kind == StageKind::Vision {
        for (name, tensor) in distortion::fresh(model.config.vision.out_hidden) {
            weights.insert(name, tensor);
        }
    }
    let trains = |name: &str| trains(stage, name);
    let (kind, device) = (model.weights, model.device);
    Ok(match stage.parallel.sharding {
        settings::Sharding::Replicate => Box::new(Replicate::new(weights, trains, kind, device)?),
        settings::Sharding::Optimizer => Box::new(Sliced::new(weights, trains, kind, device, seat.world)?),
        settings::Sharding::Full => Box::new(Full::new(&weights, trains, kind, device, seat.world)?),
        settings::Sharding::Hybrid => Box::new(Hybrid::new(&weights, trains, kind, device, seat)?),
    })
}

/// Whether a stage trains a parameter. A vision stage never reaches the language model.
fn trains(stage: &Stage, name: &str) -> bool {
    let vision = BlockId::of(name).is_ok_and(BlockId::is_vision);
    match (stage.kind, stage.trainable) {
        (StageKind::Vision, _) if distortion::is_head(name) => true,
        (StageKind::Vision, Trainable::Language) => false,
        (StageKind::Vision, Trainable::Lora) => vision && is_adapter(name),
        (_, Trainable::Lora) => is_adapter(name),
        (StageKind::Vision, _) | (_, Trainable::Vision) => vision,
        (_, Trainable::All) => true,
        (_, Trainable::Language) => !vision,
    }
}
