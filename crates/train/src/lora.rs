//! What `model.lora` makes of a stage: adapters beside its weights, or adapters of the stage before taken into them.

use std::collections::BTreeMap;

use model::{Adapters, Dropout, Params, Qwen, is_adapter, keys};
use settings::{Stage, StageKind, Trainable};
use tch::{Kind, Tensor, no_grad_guard};

use crate::Error;
use crate::blocks::BlockId;
use crate::item::Item;

/// Brings `model` and all its `weights` (f32) to what `stage` computes with. Adapters among the weights go on where
/// they are the stage's; those of the stage before that are not are added to their weights. Fresh ones are drawn from
/// `seed`.
///
/// # Errors
/// If the stage's targets are no modules, or loaded adapters are not the stage's.
pub(crate) fn begin(stage: &Stage, seed: u64, model: &mut Qwen, weights: &mut Params) -> Result<(), Error> {
    let _guard = no_grad_guard();
    let wanted = match stage.trainable {
        Trainable::Lora => Adapters::choose(&model.config, &stage.lora).map_err(Error::Adapters)?,
        _ => Adapters::none(),
    };
    let shapes = wanted.shapes(&model.config, stage.lora.rank);
    let blind = |name: &String| !BlockId::of(name).is_ok_and(BlockId::is_vision);
    if stage.kind == StageKind::Vision && !wanted.is_empty() && shapes.keys().all(blind) {
        let targets = &stage.lora.targets;
        return Err(Error::Adapters(format!(
            "model.lora.targets {targets} match nothing in the vision tower, which is all that a stage of kind vision \
             reaches"
        )));
    }
    let found: BTreeMap<String, Vec<i64>> = weights
        .iter()
        .filter(|(name, _)| is_adapter(name))
        .map(|(name, tensor)| (name.clone(), tensor.size()))
        .collect();
    let loaded = model.adapters.is_empty();
    if found == shapes && (loaded || model.adapters == wanted) {
        model.adapters = wanted;
        return Ok(());
    }
    if loaded && !found.is_empty() {
        let reason = "the weights come with adapters that are not those of model.lora".to_owned();
        return Err(Error::Adapters(reason));
    }
    merge(&model.adapters, weights);
    if !shapes.is_empty() {
        let seed = keys::join(&[seed, keys::name(&stage.name)]);
        for (name, tensor) in wanted.fresh(&model.config, stage.lora.rank, seed) {
            weights.insert(name, tensor);
        }
    }
    model.adapters = wanted;
    Ok(())
}

/// Adds adapters to their weights, and takes them out.
fn merge(adapters: &Adapters, weights: &mut Params) {
    let (apart, base): (Vec<_>, Vec<_>) =
        std::mem::take(weights).into_iter().partition(|(name, _)| is_adapter(name));
    let apart: Params = apart.into_iter().collect();
    let merged = |(name, weight): (String, Tensor)| {
        let weight = adapters.merged(&name, &weight, &apart).unwrap_or(weight);
        (name, weight)
    };
    *weights = base.into_iter().map(merged).collect();
}

/// The dropout of a step: a row's draws depend on the step and on what the row computes alone, so neither ranks nor
/// micro-batches change them, and completions that share a prompt see the same one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepDropout {
    rate: f64,
    key: u64,
}

impl StepDropout {
    /// That of the step after `steps` others, where the stage has one.
    pub(crate) fn of(stage: &Stage, seed: u64, steps: u64) -> Option<Self> {
        let rate = stage.lora.dropout;
        let key = keys::join(&[seed, keys::name(&stage.name), steps]);
        (stage.trainable == Trainable::Lora && rate > 0.0).then_some(Self { rate, key })
    }

    /// Over packed tokens.
    pub(crate) fn tokens(&self, items: &[Item]) -> Dropout {
        let mut rows = Vec::new();
        for item in items {
            let (prompt, completions): (&[u32], Vec<&[u32]>) = match item {
                Item::Policy { prompt, completions, .. } => {
                    (&prompt.ids, completions.iter().map(|c| c.ids.as_slice()).collect())
                }
                Item::Answer { prompt, ids, .. } => (&prompt.ids, vec![ids]),
                Item::Distortion { .. } => continue,
            };
            let asked = of_ids(prompt);
            rows.extend((0..prompt.len() as u64).map(|row| keys::join(&[self.key, asked, row])));
            for ids in completions {
                let said = of_ids(ids);
                rows.extend((0..ids.len() as u64).map(|row| keys::join(&[self.key, asked, said, row])));
            }
        }
        Dropout::new(self.rate, rows)
    }

    /// Over the patches of all pictures.
    pub(crate) fn patches(&self, items: &[Item]) -> Dropout {
        let mut rows = Vec::new();
        for item in items {
            let pixels = item.pixels();
            let count = pixels.size()[0];
            if count > 0 {
                let first = pixels.get(0).to_kind(Kind::Float).to_device(tch::Device::Cpu);
                let bits = Vec::<f32>::try_from(first).unwrap_or_default();
                let bits: Vec<u64> = bits.into_iter().map(|value| value.to_bits().into()).collect();
                let picture = keys::join(&bits);
                rows.extend((0..count as u64).map(|row| keys::join(&[self.key, picture, row])));
            }
        }
        Dropout::new(self.rate, rows)
    }
}

fn of_ids(ids: &[u32]) -> u64 {
    keys::join(&ids.iter().map(|&id| id.into()).collect::<Vec<_>>())
}
