//! Label files to samples, each source read once however many stages use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use data::{Media, Part, Sample, TextLabel, is_video_name, ready_made};
use serde_json::Value;
use settings::{DataSource, Run, Stage, StageKind};

use super::supervised::distortion;
use super::{PlanError, StageData};
use crate::outlook::stand_in;

/// Whether declared counts may stand in for label files that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// They are an error.
    Refused,
    /// As the recipe declares them.
    Declared,
}

/// Every stage's data; `run` learns how many steps its epochs are.
pub(super) fn stages(run: &mut Run, absent: Absent) -> Result<Vec<StageData>, PlanError> {
    let mut read: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let seed = run.run.seed;
    let stages = run.stages.iter_mut().enumerate();
    stages.map(|(index, stage)| load(seed, index, stage, absent, &mut read)).collect()
}

fn load(
    seed: u64,
    index: usize,
    stage: &mut Stage,
    absent: Absent,
    read: &mut BTreeMap<String, Vec<Sample>>,
) -> Result<StageData, PlanError> {
    let name = stage.name.clone();
    let of = |source| PlanError::Data { stage: name.clone(), source };
    let mut samples = |sources: &[DataSource], part: Part| -> Result<Vec<Sample>, PlanError> {
        let key = format!("{part:?} {sources:?}");
        if let Some(samples) = read.get(&key) {
            return Ok(samples.clone());
        }
        let (declared, there): (Vec<_>, Vec<_>) = sources
            .iter()
            .cloned()
            .partition(|source| absent == Absent::Declared && stand_in(source).is_some());
        let mut samples = data::read_sources(&there, part, mos_text).map_err(of)?;
        demand_pictures(&samples, &name)?;
        samples.extend(declared.iter().flat_map(placeholders));
        read.insert(key, samples.clone());
        Ok(samples)
    };
    let train = samples(&stage.data.train, Part::Train)?;
    let validation = samples(&stage.data.validation, Part::Validation)?;
    let test = samples(&stage.data.test, Part::Test)?;
    if stage.kind == StageKind::Vision {
        for sample in train.iter().filter(|sample| !sample.images.is_empty()) {
            distortion(sample, stage)?;
        }
    }
    let mut plan = data::Plan::new(&train, seed, index, stage).map_err(of)?;
    if let Some(epochs) = stage.data.epochs.take() {
        let iterations = if stage.kind == StageKind::Prpo { stage.objective.iterations.max(1) } else { 1 };
        stage.steps = u64::from(epochs) * plan.steps_per_epoch() as u64 * u64::from(iterations);
        plan = data::Plan::new(&train, seed, index, stage).map_err(of)?;
    }
    Ok(StageData { train, validation, test, plan })
}

/// MOS text as `eval` reads it.
fn mos_text(text: &str, file: &str) -> Result<Vec<TextLabel>, String> {
    let labels = eval::parse_labels(text, file).map_err(|e| e.to_string())?;
    let label = |l: eval::Label| TextLabel { path: l.path, reference: l.reference, mos: l.mos };
    Ok(labels.into_iter().map(label).collect())
}

/// Samples of a source that is elsewhere: as many as it declares, without pictures.
fn placeholders(source: &DataSource) -> Vec<Sample> {
    let Some(declared) = source.declared else { return Vec::new() };
    let sample = |i: u32| Sample {
        id: format!("{}/{i}", source.name),
        dataset: source.name.clone(),
        media: if declared.video { Media::Video } else { Media::Image },
        images: Vec::<PathBuf>::new(),
        question: String::new(),
        mos: 3.0,
        reference: i.to_string(),
        distortion: None,
    };
    (0..declared.samples).map(sample).collect()
}

fn demand_pictures(samples: &[Sample], stage: &str) -> Result<(), PlanError> {
    for sample in samples {
        let there = |path: &Path| path.is_file() || (is_video_name(path) && ready_made(path).is_some());
        if let Some(missing) = sample.images.iter().find(|path| !there(path)) {
            return Err(PlanError::Sample {
                stage: stage.to_owned(),
                sample: sample.id.clone(),
                reason: format!(
                    "{} is no file; expected the {} that the label file names",
                    missing.display(),
                    if is_video_name(missing) { "video" } else { "picture" }
                ),
            });
        }
    }
    Ok(())
}

/// The tokens that end a completion, as the model folder's generation_config.json or config.json has them.
pub(super) fn end_tokens(model: &Path) -> BTreeSet<u32> {
    let of = |name: &str| -> Option<BTreeSet<u32>> {
        let json: Value = serde_json::from_slice(&std::fs::read(model.join(name)).ok()?).ok()?;
        let given = match &json["eos_token_id"] {
            Value::Null => &json["text_config"]["eos_token_id"],
            given => given,
        };
        let all: Vec<&Value> = given.as_array().map_or_else(|| vec![given], |list| list.iter().collect());
        let tokens: BTreeSet<u32> = all.into_iter().filter_map(|v| u32::try_from(v.as_u64()?).ok()).collect();
        (!tokens.is_empty()).then_some(tokens)
    };
    of("generation_config.json").or_else(|| of("config.json")).unwrap_or_default()
}
