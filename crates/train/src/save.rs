//! A trainer's weights and state on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::weights::{View, WeightFiles};
use checkpoint::{Export, Files, SHARD_BYTES, STATE_ABOUT, StateAbout};
use collective::Group;
use model::names::canonical;
use model::{Params, is_adapter, peft};
use settings::{Dtype, Lora};
use tch::{Kind, Tensor, no_grad_guard};

use crate::sharding::{Ranks, StateSource};
use crate::tensors::{Stored, kind_of};
use crate::{Error, Trainer, distortion, reference};

/// The training state's file in a checkpoint.
pub const STATE_FILE: &str = "training_state.safetensors";

/// The folder of an export that holds the adapters as PEFT keeps them. Not the export's own: transformers would load
/// them over weights that have them already.
pub const ADAPTER_FOLDER: &str = "adapter";

/// The `optimizer:` keys that a state's moments depend on: they stay while it goes on.
const FIXED: [&str; 3] = ["betas", "eps", "weight_decay"];

/// Begins the names of a state's parts.
const STATE_STEM: &str = "training_state";

impl Trainer {
    /// Writes a Hugging Face directory's files into `folder`: weights as `dtype` under the names that `source`
    /// (the checkpoint that training began with) has them, and `source`'s configuration, tokenizer and processor.
    /// The throw-away head is left out. Adapters are added to their weights, and lie beside them in
    /// [`ADAPTER_FOLDER`] as PEFT keeps them. Where weights are cut over ranks, all ranks must call it: the first one
    /// writes, and gets one block of the others' at a time.
    ///
    /// # Errors
    /// If a file cannot be read or written, or a collective fails.
    pub fn export(
        &mut self,
        source: &Path,
        folder: &Path,
        dtype: Dtype,
        group: &dyn Group,
    ) -> Result<Files, Error> {
        let (kind, spelling) = match dtype {
            Dtype::Bfloat16 => (Kind::BFloat16, "bfloat16"),
            Dtype::Float32 => (Kind::Float, "float32"),
        };
        let ranks = self.ranks(group)?;
        let apart = self.adapters(&ranks)?;
        if !self.sharding().is_first_copy() {
            return Ok(Files::new());
        }
        if self.part().index != 0 {
            self.sharding_mut().each_weight(&ranks, &mut |_, _| Ok(()))?;
            return Ok(Files::new());
        }
        let published = published_names(source);
        let adapters = self.model().adapters.clone();
        let mut export = Export::begin(source, folder, spelling, SHARD_BYTES)?;
        self.sharding_mut().each_weight(&ranks, &mut |name, weight| {
            if distortion::is_head(name) || is_adapter(name) {
                return Ok(());
            }
            let merged = adapters.merged(name, &weight, &apart);
            let stored = Stored::new(name, merged.as_ref().unwrap_or(&weight), kind)?;
            let name = published.get(name).cloned().unwrap_or_else(|| name.to_owned());
            Ok(export.add(name, stored)?)
        })?;
        let mut files = export.finish()?;
        if !apart.is_empty() {
            files.extend(write_adapters(source, folder, &apart, &self.stage().lora)?);
        }
        Ok(files)
    }

    /// All adapters, f32. Where weights are cut over ranks, all ranks must call it.
    fn adapters(&mut self, ranks: &Ranks<'_>) -> Result<Params, Error> {
        let mut apart = Params::new();
        if !self.model().adapters.is_empty() {
            self.sharding_mut().each_weight(ranks, &mut |name, weight| {
                if is_adapter(name) {
                    let _guard = no_grad_guard();
                    apart.insert(name, weight.copy());
                }
                Ok(())
            })?;
        }
        Ok(apart)
    }

    /// Writes what going on needs of this rank's part into `folder`: masters and moments (f32), frozen weights as
    /// they compute, the optimizer's step count, and in the first part the reference policy and what the state is. Of
    /// ranks that hold copies of a part the first one writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_state(&self, folder: &Path) -> Result<Files, Error> {
        let own = self.part();
        if !self.sharding().is_first_copy() {
            return Ok(Files::new());
        }
        let mut stored = BTreeMap::new();
        for piece in self.sharding().pieces() {
            if piece.shared && own.index != 0 {
                continue;
            }
            let (name, values) = if piece.values.numel() as i64 == piece.whole() {
                (piece.name.clone(), piece.values.view(piece.shape.as_slice()))
            } else {
                (format!("{}@{}", piece.name, piece.start), piece.values)
            };
            stored.insert(name.clone(), Stored::new(&name, &values, values.kind())?);
        }
        if let Some(kept) = self.reference.as_ref().filter(|_| own.index == 0) {
            let steps = (reference::STEPS.to_owned(), Tensor::from(kept.steps().cast_signed()));
            for (name, tensor) in kept.state().into_iter().chain([steps]) {
                stored.insert(name.clone(), Stored::new(&name, &tensor, tensor.kind())?);
            }
        }
        let steps = Tensor::from(self.sharding().steps().cast_signed());
        stored.insert("step".to_owned(), Stored::new("step", &steps, Kind::Int64)?);
        let file = if own.of == 1 {
            STATE_FILE.to_owned()
        } else {
            format!("{STATE_STEM}-{:05}-of-{:05}.safetensors", own.index + 1, own.of)
        };
        let digest = checkpoint::write_tensors(&folder.join(&file), stored)?;
        let mut files = Files::from([(file, digest)]);
        if own.index == 0 {
            files.insert(STATE_ABOUT.to_owned(), self.state_about().write(folder)?);
        }
        Ok(files)
    }

    /// What a state saved now is.
    fn state_about(&self) -> StateAbout {
        let keys = serde_json::to_value(&self.stage().optimizer).ok();
        let optimizer = keys.and_then(|keys| keys.as_object().cloned()).unwrap_or_default();
        StateAbout { steps: self.sharding().steps(), optimizer: optimizer.into_iter().collect() }
    }

    /// Takes back what [`Trainer::save_state`] wrote in the same stage, in a world of any size under any sharding: on
    /// the same ranks training goes on bit for bit.
    ///
    /// # Errors
    /// If a file cannot be read or belongs to another model, stage or optimizer; nothing is changed then.
    pub fn load_state(&mut self, folder: &Path) -> Result<(), Error> {
        let _guard = no_grad_guard();
        let paths = state_files(folder)?;
        if let Some((key, was, is)) = StateAbout::read(folder)?.differs(&self.state_about(), &FIXED) {
            return Err(Error::StateOptimizer { folder: folder.to_owned(), key, was, is });
        }
        let files: Vec<WeightFiles> =
            paths.iter().map(|path| WeightFiles::open_file(path)).collect::<Result<_, _>>()?;
        let mut source = StateSource::default();
        for (name, view) in tensors(&files).filter(|(name, _)| !reference::is_reference(name)) {
            source.note(name, len(&view), stored_kind(name, &view)?);
        }
        let mut own = self.sharding().pieces();
        source.check(&own)?;
        source.only(|name| {
            let (part, name) = name.split_once('.').unwrap_or_default();
            self.sharding().has(name) && (part == "frozen") != self.sharding().trains(name)
        })?;
        let steps = tensors(&files).find(|(name, _)| *name == "step");
        let steps = steps.ok_or_else(|| Error::StateMissing { name: "step".to_owned() })?;
        let steps = u64::try_from(values("step", &steps.1)?.int64_value(&[0])).unwrap_or_default();
        let kept = self.saved_reference(&files)?;
        self.discard();
        self.mirror = None;
        for (name, view) in tensors(&files) {
            let mut stored = None;
            for piece in &mut own {
                let Some((from, at, count)) = piece.overlap(name, len(&view)) else { continue };
                let whole = match &stored {
                    Some(whole) => whole,
                    None => stored.insert(values(name, &view)?),
                };
                piece.values.narrow(0, at, count).copy_(&whole.narrow(0, from, count));
            }
        }
        self.sharding_mut().refresh(steps);
        if let (Some(own), Some((state, steps))) = (&mut self.reference, kept) {
            own.take_up(state, steps);
        }
        Ok(())
    }

    /// The reference policy of a saved state, with the steps since its last move, where the stage has one.
    fn saved_reference(&self, files: &[WeightFiles]) -> Result<Option<(reference::State, u64)>, Error> {
        let Some(own) = &self.reference else { return Ok(None) };
        let saved = |name: &str| {
            let found = tensors(files).find(|(stored, _)| *stored == name);
            values(name, &found.ok_or_else(|| Error::StateMissing { name: name.to_owned() })?.1)
        };
        let read = |(name, like): (String, Tensor)| {
            let tensor = saved(&name)?;
            if tensor.kind() != like.kind() || tensor.numel() != like.numel() {
                let told = |t: &Tensor| format!("{:?} {:?}", t.kind(), t.size());
                return Err(Error::StateShape { name, found: told(&tensor), expected: told(&like) });
            }
            Ok((name, tensor.view(like.size().as_slice()).to_device(like.device())))
        };
        let state = own.state().into_iter().map(read).collect::<Result<_, _>>()?;
        let steps = u64::try_from(saved(reference::STEPS)?.int64_value(&[0])).unwrap_or_default();
        Ok(Some((state, steps)))
    }
}

fn tensors(files: &[WeightFiles]) -> impl Iterator<Item = (&str, View<'_>)> {
    files.iter().flat_map(|file| file.names().filter_map(|name| Some((name, file.tensor(name)?))))
}

fn len(view: &View<'_>) -> i64 {
    view.shape.iter().product::<usize>() as i64
}

fn stored_kind(name: &str, view: &View<'_>) -> Result<Kind, Error> {
    kind_of(view.dtype).ok_or_else(|| Error::StateShape {
        name: name.to_owned(),
        found: format!("{:?}", view.dtype),
        expected: "F32, BF16 or I64".to_owned(),
    })
}

/// A stored tensor's values, flat.
fn values(name: &str, view: &View<'_>) -> Result<Tensor, Error> {
    let kind = stored_kind(name, view)?;
    Tensor::f_from_data_size(view.bytes, &[len(view)], kind).map_err(|e| Error::StateShape {
        name: name.to_owned(),
        found: e.to_string(),
        expected: format!("{kind:?}"),
    })
}

/// Writes adapters, f32, in PEFT's format.
fn write_adapters(source: &Path, folder: &Path, adapters: &Params, lora: &Lora) -> Result<Files, Error> {
    let mut stored = BTreeMap::new();
    for (name, tensor) in adapters {
        let name = peft::name(name);
        stored.insert(name.clone(), Stored::new(&name, tensor, Kind::Float)?);
    }
    let text = format!("{:#}\n", peft::config(source, lora));
    let place = |name: &str| format!("{ADAPTER_FOLDER}/{name}");
    checkpoint::create_folder(&folder.join(ADAPTER_FOLDER))?;
    let config = checkpoint::write_file(&folder.join(place(peft::CONFIG)), text.as_bytes())?;
    let weights = checkpoint::write_tensors(&folder.join(place(peft::WEIGHTS)), stored)?;
    Ok(Files::from([(place(peft::CONFIG), config), (place(peft::WEIGHTS), weights)]))
}

/// The files of a state: one, or one a part.
fn state_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let whole = folder.join(STATE_FILE);
    if whole.is_file() {
        return Ok(vec![whole]);
    }
    let wrong = |reason: String| Error::StateFiles { folder: folder.to_owned(), reason };
    let entries = fs::read_dir(folder).map_err(|e| wrong(e.to_string()))?;
    let names: BTreeSet<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let parts = |of: usize| -> Vec<String> {
        (1..=of).map(|n| format!("{STATE_STEM}-{n:05}-of-{of:05}.safetensors")).collect()
    };
    let first = names.iter().find_map(|name| {
        let of = name.strip_prefix(STATE_STEM)?.strip_suffix(".safetensors")?.rsplit_once("-of-")?.1;
        of.parse::<usize>().ok()
    });
    let Some(of) = first else {
        return Err(wrong(format!("there is no {STATE_FILE} and no part of one")));
    };
    match parts(of).into_iter().find(|name| !names.contains(name)) {
        Some(missing) => Err(wrong(format!("of its {of} parts {missing} is missing"))),
        None => Ok(parts(of).iter().map(|name| folder.join(name)).collect()),
    }
}

/// Canonical name to the name in the source's files; empty where the source has no weights of its own.
fn published_names(source: &Path) -> BTreeMap<String, String> {
    let Ok(files) = WeightFiles::open(source) else { return BTreeMap::new() };
    files.names().map(|name| (canonical(name), name.to_owned())).collect()
}
