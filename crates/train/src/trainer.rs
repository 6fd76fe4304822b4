//! A rank's training: stages, prepared steps, commits.

use std::collections::BTreeMap;
use std::time::Duration;

use collective::Group;
use model::{Params, Qwen, VisionBatch, run};
use settings::{Optimizer, Stage, StageKind, Trainable};
use tch::{Kind, Tensor, no_grad_guard};

use crate::Error;
use crate::blocks::BlockId;
use crate::distortion::{self, Prediction};
use crate::item::Item;
use crate::metrics::Sums;
use crate::microbatch::cut;
use crate::norm::clip_factor;
use crate::pass::{Counts, Pass};
use crate::reference::Reference;
use crate::sharding::{Replicate, Sharding};

/// A step whose gradients are reduced over all ranks and lie ready; nothing is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// This rank's share of the step's loss; the shares' sum over ranks is the loss.
    pub loss: f64,
    /// Norm of the reduced gradient before clipping, the same on every rank.
    pub grad_norm: f64,
    /// Whether loss and norm are finite; otherwise every rank must commit with `skip`.
    pub finite: bool,
    /// Sums over this rank's tokens or pictures by name, and maxima named `max_…`.
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
    sharding: Box<dyn Sharding>,
    reference: Option<Reference>,
    pending: Option<Pending>,
    /// Bound on each wait for a collective.
    deadline: Duration,
}

impl Trainer {
    /// Begins `stage` with `weights` (f32, canonical names), computing on `threads` CPU threads (0: libtorch's
    /// own choice). A collective that takes longer than `deadline` fails the step.
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
        if let Ok(threads @ 1..) = i32::try_from(threads) {
            tch::set_num_threads(threads);
        }
        let sharding = lay_out(weights, &model, stage)?;
        let reference = Reference::of(stage, sharding.as_ref());
        Ok(Self { model, stage: stage.clone(), sharding, reference, pending: None, deadline })
    }

    /// Begins a stage: fresh moments, and a reference policy that is its start. Without `weights` it goes on
    /// with those in memory.
    ///
    /// # Errors
    /// If a weight is none of the model's.
    pub fn begin_stage(&mut self, stage: &Stage, weights: Option<Params>) -> Result<(), Error> {
        let weights = weights.unwrap_or_else(|| {
            let own = self.sharding.weights().into_iter();
            own.filter(|(name, _)| !distortion::is_head(name)).collect()
        });
        self.sharding = lay_out(weights, &self.model, stage)?;
        self.reference = Reference::of(stage, self.sharding.as_ref());
        self.stage = stage.clone();
        self.pending = None;
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
        self.pending = None;
        for (index, item) in items.iter().enumerate() {
            item.check(index, self.stage.kind, &self.model.config)?;
        }
        let objective = &self.stage.objective;
        if let Some(reference) = self.reference.as_mut().filter(|r| r.is_due(objective)) {
            reference.follow(self.sharding.weights(), objective.sync_mixture, &self.model);
        }
        let reference = self.reference.as_ref().map(|r| &r.params);
        let pass = Pass { model: &self.model, stage: &self.stage, reference, counts };
        let weights = self.sharding.as_mut();
        weights.reset();
        let tokens: Vec<usize> = items.iter().map(|item| item.tokens(&self.model.config)).collect();
        let runs = cut(&tokens, self.stage.parallel.token_budget as usize);
        let mut loss = Tensor::zeros([0_i64; 0], (Kind::Double, self.model.device));
        let mut sums = Sums::default();
        for (number, items) in runs.iter().map(|run| &items[run.clone()]).enumerate() {
            let last = number + 1 == runs.len();
            let mut finished = |weights: &mut dyn Sharding, open: Option<BlockId>| {
                if last { weights.reduce_above(open, group) } else { Ok(()) }
            };
            let (part, part_sums) = pass.run(items, weights, &mut finished)?;
            loss += part.to_kind(Kind::Double);
            sums.absorb(part_sums);
            progress();
        }
        weights.reduce_above(None, group)?;
        weights.finish(self.deadline)?;
        let (loss, grad_norm) = (loss.double_value(&[]), weights.norm());
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

    /// SHA-256 over all weights (masters where trained) in the order of their names, hexadecimal.
    pub fn digest(&mut self) -> String {
        self.sharding.digest()
    }

    /// The model's shapes, compute type and device.
    #[must_use]
    pub fn model(&self) -> &Qwen {
        &self.model
    }

    /// All weights in compute type, for rollouts; to be used without gradient tracking.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.sharding.all_params()
    }

    /// The last prepared step's reduced gradients before clipping, f32, by canonical name.
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
        distortion::read(&run(&links, self.params(), &pixels))
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
fn lay_out(mut weights: Params, model: &Qwen, stage: &Stage) -> Result<Box<dyn Sharding>, Error> {
    if stage.kind == StageKind::Vision {
        for (name, tensor) in distortion::fresh(model.config.vision.out_hidden) {
            weights.insert(name, tensor);
        }
    }
    let trains = |name: &str| trains(stage, name);
    match stage.parallel.sharding {
        settings::Sharding::Replicate => {
            Ok(Box::new(Replicate::new(weights, trains, model.kind, model.device)?))
        }
    }
}

/// Whether a stage trains a parameter. A vision stage never reaches the language model.
fn trains(stage: &Stage, name: &str) -> bool {
    let vision = BlockId::of(name).is_ok_and(BlockId::is_vision);
    match (stage.kind, stage.trainable) {
        (StageKind::Vision, _) if distortion::is_head(name) => true,
        (StageKind::Vision, Trainable::Language) => false,
        (StageKind::Vision, _) | (_, Trainable::Vision) => vision,
        (_, Trainable::All) => true,
        (_, Trainable::Language) => !vision,
    }
}
