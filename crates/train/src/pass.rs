//! Forward and backward of one micro-batch.

use model::{Dropout, Link, Packed, PackedSample, Qwen, Targets, VisionBatch, head};
use settings::{Stage, StageKind};
use tch::{Kind, Tensor, no_grad_guard};

use crate::Error;
use crate::backward::forward;
use crate::distortion;
use crate::idle;
use crate::item::{Completion, Item};
use crate::logprobs::{Predictions, chunk_rows};
use crate::lora::StepDropout;
use crate::metrics::Sums;
use crate::objective::{PolicyTokens, cross_entropy};
use crate::reference::Reference;
use crate::sharding::Weights;

/// What every rank divides by: counts over all ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Samples, completions and tokens of the step.
    pub step: grpo::Counts,
    /// Sum of the weights of all answer tokens (`kind: sft`).
    pub answer_weight: f64,
}

/// The loss of a chunk of tokens, given its first token and log-probabilities.
type ChunkLoss<'a> = dyn Fn(i64, &Tensor) -> (Tensor, Sums) + 'a;

/// What all micro-batches of a step share.
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a Qwen,
    pub(crate) stage: &'a Stage,
    /// Where a rank has completions that it is to judge: then every rank goes through its collectives.
    pub(crate) reference: Option<&'a Reference>,
    pub(crate) counts: Counts,
    /// Whether any rank's step has pictures: then every rank goes through the vision blocks' collectives.
    pub(crate) pictures: bool,
    /// Of the adapters.
    pub(crate) dropout: Option<StepDropout>,
}

impl Pass<'_> {
    /// Adds the gradients of `items` to `weights`; gives their share of the step's loss (f32 scalar) and metrics.
    pub(crate) fn run(&self, items: &[Item], weights: &mut dyn Weights) -> Result<(Tensor, Sums), Error> {
        match items.first() {
            None => self.idle(weights),
            Some(Item::Distortion { .. }) => self.vision(items, weights),
            Some(_) => self.language(items, weights),
        }
    }

    /// The vision tower under the throw-away head.
    fn vision(&self, items: &[Item], weights: &mut dyn Weights) -> Result<(Tensor, Sums), Error> {
        let mut batch = VisionBatch::default();
        let (mut kinds, mut levels, mut qualities) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            if let Item::Distortion { picture, kind, level, quality, .. } = item {
                batch.grids.extend(&picture.grids);
                kinds.push(i64::from(*kind));
                levels.push(i64::from(*level));
                qualities.push(*quality as f32);
            }
        }
        let device = self.model.device;
        let labels = distortion::Labels {
            kinds: Tensor::from_slice(&kinds).to_device(device),
            levels: Tensor::from_slice(&levels).to_device(device),
            qualities: Tensor::from_slice(&qualities).to_device(device),
        };
        let dropout = self.dropout.map(|dropout| dropout.patches(items));
        let mut links = self.model.vision_chain_with(&batch, dropout.as_ref());
        links.push(distortion::link(&batch, self.model.config.vision.merge, device));
        let chain = forward(links, &self.pixels(items), weights, self.stage.parallel.recompute, &[])?;
        let output = chain.output.detach().set_requires_grad(true);
        let (loss, sums) = labels.loss(&output, &self.stage.supervised, self.counts.step.samples);
        loss.backward();
        chain.backward(&output.grad(), weights)?;
        Ok((loss.detach(), sums))
    }

    /// No items: the collectives of a micro-batch without its computation.
    fn idle(&self, weights: &mut dyn Weights) -> Result<(Tensor, Sums), Error> {
        let recompute = self.stage.parallel.recompute;
        let alone = self.stage.kind == StageKind::Vision;
        let mut links = if self.pictures || alone { idle::vision(self.model) } else { Vec::new() };
        if alone {
            links.push(idle::distortion());
        } else {
            let frozen = !trains(&links, weights);
            if frozen {
                let _ = forward(links, &self.model.no_images(), weights, recompute, &[])?;
                links = Vec::new();
            }
            links.extend(idle::text(self.model));
            if let Some(reference) = self.reference {
                let tower =
                    if self.pictures && !frozen { idle::vision(&reference.model) } else { Vec::new() };
                let chain = tower.into_iter().chain(idle::text(&reference.model)).collect();
                let mut over = reference.over(weights);
                let head = [self.model.head_name().to_owned()];
                let _ = forward(chain, &self.model.no_images(), &mut over, recompute, &head)?;
                let _ = over.params(&head)?;
            }
        }
        let head = if alone { Vec::new() } else { vec![self.model.head_name().to_owned()] };
        let chain = forward(links, &self.model.no_images(), weights, recompute, &head)?;
        if !alone {
            let _ = chain.then(&head, weights)?;
        }
        let nothing = chain.output.zeros_like();
        chain.backward(&nothing, weights)?;
        Ok((Tensor::zeros([0_i64; 0], (Kind::Float, self.model.device)), Sums::default()))
    }

    /// The whole model under the policy loss or cross-entropy.
    fn language(&self, items: &[Item], weights: &mut dyn Weights) -> Result<(Tensor, Sums), Error> {
        let samples: Vec<PackedSample<'_>> = items.iter().filter_map(packed_sample).collect();
        let packed = Packed::new(&samples, self.model.kind, self.model.device);
        let grids = samples.iter().flat_map(|sample| &sample.prompt.grids).copied().collect();
        let batch = VisionBatch { grids };
        let mut input = if batch.grids.is_empty() { self.model.no_images() } else { self.pixels(items) };
        let mut links = self.tower(self.model, &batch, self.dropout.map(|d| d.patches(items)).as_ref());
        // A frozen tower sees the same for the policy and its reference.
        let frozen = !trains(&links, weights);
        if frozen {
            input = forward(links, &input, weights, self.stage.parallel.recompute, &[])?.output;
            links = Vec::new();
        }
        let dropout = self.dropout.map(|dropout| dropout.tokens(items));
        links.extend(self.model.text_chain_with(&packed, dropout.as_ref()));
        let targets = packed.targets();

        let reference = match self.reference {
            Some(reference) => {
                let tower = if frozen { Vec::new() } else { self.tower(&reference.model, &batch, None) };
                let chain = tower.into_iter().chain(reference.model.text_chain(&packed)).collect();
                Some(self.judge(chain, &input, &targets, &mut reference.over(weights))?)
            }
            None => None,
        };
        let after = [self.model.head_name().to_owned()];
        let chain = forward(links, &input, weights, self.stage.parallel.recompute, &after)?;
        let hidden = chain.output.index_select(0, &targets.rows);
        let params = chain.then(&after, weights)?;
        let head = params.get(&after[0]);
        let predictions =
            Predictions { hidden: &hidden, head, targets: &targets.ids, rows: chunk_rows(head) };
        let losses = self.token_losses(items, reference);
        let name = self.model.head_name();
        let trains_head = weights.trains(name);
        let mut head_gradient = |gradient: &Tensor| weights.accumulate(name, gradient);
        let (loss, d_hidden, sums) = predictions
            .backward(|start, logprobs| losses(start, logprobs), trains_head.then_some(&mut head_gradient));
        let d_output = scatter(&chain.output, &targets.rows, &d_hidden);
        chain.backward(&d_output, weights)?;
        Ok((loss, sums))
    }

    /// The vision chain of `model`; idle where other ranks have pictures.
    fn tower<'m>(&self, model: &'m Qwen, batch: &VisionBatch, dropout: Option<&Dropout>) -> Vec<Link<'m>> {
        if self.pictures && batch.grids.is_empty() {
            return idle::vision(model);
        }
        model.vision_chain_with(batch, dropout)
    }

    /// Log-probabilities of the targets, f32 `[tokens]`, by a reference policy's chain and weights.
    fn judge(
        &self,
        chain: Vec<Link<'_>>,
        input: &Tensor,
        targets: &Targets,
        weights: &mut dyn Weights,
    ) -> Result<Tensor, Error> {
        let after = [self.model.head_name().to_owned()];
        let chain = forward(chain, input, weights, self.stage.parallel.recompute, &after)?;
        let head = weights.params(&after)?.get(&after[0]).shallow_clone();
        let output = chain.output;
        let _guard = no_grad_guard();
        let hidden = output.index_select(0, &targets.rows);
        Ok(head::logprobs(&hidden, &head, &targets.ids, chunk_rows(&head)))
    }

    /// The loss of the items' target tokens.
    fn token_losses<'a>(&'a self, items: &[Item], reference: Option<Tensor>) -> Box<ChunkLoss<'a>> {
        let device = self.model.device;
        if let Some(Item::Answer { .. }) = items.first() {
            let divisor = if self.counts.answer_weight > 0.0 { self.counts.answer_weight } else { 1.0 };
            let weight = items.iter().flat_map(answer_weights).map(|w| (w / divisor) as f32);
            let weight = Tensor::from_slice(&weight.collect::<Vec<_>>()).to_device(device);
            return Box::new(move |start, logprobs| {
                cross_entropy(logprobs, &weight.narrow(0, start, logprobs.size()[0]))
            });
        }
        let tokens = self.policy_tokens(items, reference);
        Box::new(move |start, logprobs| {
            tokens.narrow(start, logprobs.size()[0]).loss(logprobs, &self.stage.objective)
        })
    }

    fn policy_tokens(&self, items: &[Item], reference: Option<Tensor>) -> PolicyTokens {
        let (form, longest) = (self.stage.objective.loss, self.stage.rollout.max_new_tokens);
        let (mut advantage, mut weight) = (Vec::new(), Vec::new());
        for Completion { ids, advantage: a, .. } in items.iter().flat_map(completions) {
            let w = self.counts.step.token_weight(form, ids.len() as u64, longest);
            advantage.extend(std::iter::repeat_n(*a as f32, ids.len()));
            weight.extend(std::iter::repeat_n(w as f32, ids.len()));
        }
        let upload = |values: &[f32]| Tensor::from_slice(values).to_device(self.model.device);
        let given = upload(&recorded(items, |c| &c.reference_logprobs));
        PolicyTokens {
            advantage: upload(&advantage),
            weight: upload(&weight),
            old: upload(&recorded(items, |c| &c.old_logprobs)),
            rollout: upload(&recorded(items, |c| match c.rollout_logprobs.is_empty() {
                true => &c.old_logprobs,
                false => &c.rollout_logprobs,
            })),
            reference: (self.stage.objective.beta != 0.0).then(|| match reference {
                Some(own) => own.where_self(&given.isnan(), &given),
                None => given,
            }),
        }
    }

    /// All pictures' patches in compute type.
    fn pixels(&self, items: &[Item]) -> Tensor {
        let parts: Vec<&Tensor> = items.iter().map(Item::pixels).collect();
        Tensor::cat(&parts, 0).to_device(self.model.device).to_kind(self.model.kind)
    }
}

fn trains(links: &[Link<'_>], weights: &dyn Weights) -> bool {
    links.iter().flat_map(|link| &link.params).any(|name| weights.trains(name))
}

fn packed_sample(item: &Item) -> Option<PackedSample<'_>> {
    match item {
        Item::Policy { prompt, completions, .. } => {
            Some(PackedSample { prompt, completions: completions.iter().map(|c| c.ids.as_slice()).collect() })
        }
        Item::Answer { prompt, ids, .. } => Some(PackedSample { prompt, completions: vec![ids] }),
        Item::Distortion { .. } => None,
    }
}

fn completions(item: &Item) -> &[Completion] {
    match item {
        Item::Policy { completions, .. } => completions,
        _ => &[],
    }
}

/// What is recorded of each token; not a number where nothing is.
fn recorded(items: &[Item], of: impl Fn(&Completion) -> &Vec<f32>) -> Vec<f32> {
    let mut values = Vec::new();
    for completion in items.iter().flat_map(completions) {
        match of(completion).as_slice() {
            [] => values.extend(std::iter::repeat_n(f32::NAN, completion.ids.len())),
            given => values.extend_from_slice(given),
        }
    }
    values
}

fn answer_weights(item: &Item) -> &[f64] {
    match item {
        Item::Answer { weights, .. } => weights,
        _ => &[],
    }
}

/// The gradient of all rows `[tokens, hidden]` from that of the selected ones; a row that several completions
/// read gets the sum, taken in f32.
fn scatter(output: &Tensor, rows: &Tensor, d_hidden: &Tensor) -> Tensor {
    let _guard = no_grad_guard();
    let mut all = Tensor::zeros(output.size(), (Kind::Float, output.device()));
    let _ = all.index_add_(0, rows, &d_hidden.to_kind(Kind::Float));
    all.to_kind(output.kind())
}
