//! Label files to samples, each source read once however many stages use it.

use std::collections::BTreeMap;
use std::path::Path;

use data::{Sample, is_video_name, ready_made};
use settings::{DataSource, Run, Stage, StageKind};

use super::supervised::distortion;
use super::{PlanError, StageData};

pub(super) fn stages(run: &Run) -> Result<Vec<StageData>, PlanError> {
    let mut read: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let stages = run.stages.iter().enumerate();
    stages.map(|(index, stage)| load(run, index, stage, &mut read)).collect()
}

fn load(
    run: &Run,
    index: usize,
    stage: &Stage,
    read: &mut BTreeMap<String, Vec<Sample>>,
) -> Result<StageData, PlanError> {
    let of = |source| PlanError::Data { stage: stage.name.clone(), source };
    let mut samples = |sources: &[DataSource]| -> Result<Vec<Sample>, PlanError> {
        let key = format!("{sources:?}");
        if let Some(samples) = read.get(&key) {
            return Ok(samples.clone());
        }
        let samples =
            if sources.is_empty() { Vec::new() } else { data::read_manifests(sources).map_err(of)? };
        demand_pictures(&samples, stage)?;
        read.insert(key, samples.clone());
        Ok(samples)
    };
    let (train, validation, test) =
        (samples(&stage.data.train)?, samples(&stage.data.validation)?, samples(&stage.data.test)?);
    if stage.kind == StageKind::Vision {
        for sample in &train {
            distortion(sample, stage)?;
        }
    }
    let plan = data::Plan::new(&train, run.run.seed, index, stage).map_err(of)?;
    Ok(StageData { train, validation, test, plan })
}

fn demand_pictures(samples: &[Sample], stage: &Stage) -> Result<(), PlanError> {
    for sample in samples {
        let there = |path: &Path| path.is_file() || (is_video_name(path) && ready_made(path).is_some());
        if let Some(missing) = sample.images.iter().find(|path| !there(path)) {
            return Err(PlanError::Sample {
                stage: stage.name.clone(),
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
