//! Adapters that training starts from.

use std::path::Path;

use model::{Adapters, Config, Params, peft};
use settings::{Stage, Trainable};

/// Adds to `weights`, which were read from `folder`, the adapters that `stage` starts from: those of
/// `model.lora.adapter`, else those that the folder holds beside its weights, as transformers takes them. Without
/// either, and in stages without adapters, none.
///
/// # Errors
/// If they cannot be read, or are not those of `model.lora`.
pub fn add(stage: &Stage, folder: &Path, config: &Config, weights: &mut Params) -> Result<(), String> {
    if stage.trainable != Trainable::Lora {
        return Ok(());
    }
    let beside = folder.join(peft::CONFIG).is_file().then_some(folder);
    let Some(source) = stage.lora.adapter.as_deref().or(beside) else { return Ok(()) };
    let adapters = Adapters::choose(config, &stage.lora)?;
    for (name, tensor) in peft::read(source, config, &adapters, &stage.lora)? {
        weights.insert(name, tensor);
    }
    Ok(())
}
