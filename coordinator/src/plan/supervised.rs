//! Steps that learn from labels: the distortion head, and answers made from labels.

use std::collections::BTreeMap;

use data::{Cursor, answer, describe};
use proto::v1::train_item::Target;
use proto::v1::{AnswerTarget, Counts, DistortionTarget, Piece, Sample, TrainItem};
use settings::{Stage, StageKind};

use super::shares::sample_cost;
use super::{PlanError, share};
use crate::engine::{Rank, UpdateWork};

/// A supervised step's items: samples are given as indices into `train` with what the wire has of them.
pub(super) fn update(
    samples: &[(usize, Sample)],
    train: &[data::Sample],
    stage: &Stage,
    number: u64,
    after: Cursor,
    world: &[Rank],
) -> Result<UpdateWork, PlanError> {
    let mut counts =
        Counts { samples: samples.len() as u64, completions: samples.len() as u64, ..Counts::default() };
    let (mut items, mut costs) = (Vec::new(), Vec::new());
    for (index, sample) in samples {
        let labelled = &train[*index];
        let (target, bytes) = if stage.kind == StageKind::Vision {
            (Target::Distortion(distortion(labelled, stage)?), 0)
        } else {
            let pieces = pieces(labelled, stage);
            let bytes: usize = pieces.iter().map(|p| p.text.len()).sum();
            counts.weight += weighted_bytes(&pieces);
            (Target::Answer(AnswerTarget { pieces }), bytes as u64)
        };
        costs.push(sample_cost(sample, stage, bytes / 2));
        items.push(TrainItem { sample: Some(sample.clone()), target: Some(target) });
    }
    Ok(UpdateWork {
        lr: stage.optimizer.lr_at(number, stage.steps),
        counts,
        items: share(items, &costs, world),
        samples: samples.iter().map(|(_, s)| s.id.clone()).collect(),
        cursor: cursor_text(after),
        metrics: BTreeMap::new(),
    })
}

fn pieces(sample: &data::Sample, stage: &Stage) -> Vec<Piece> {
    let weight = |lead| if lead { stage.supervised.lead_weight } else { 1.0 };
    answer(sample).into_iter().map(|p| Piece { weight: weight(p.lead), text: p.text }).collect()
}

/// What the cross-entropy is divided by over all ranks: bytes times weights. The coordinator has no tokenizer, so
/// the loss is one a byte, which is also comparable between tokenizers.
fn weighted_bytes(pieces: &[Piece]) -> f64 {
    pieces.iter().map(|p| p.weight * p.text.len() as f64).sum()
}

/// What the vision head learns of a sample: the kind's place in [`data::Kind::ALL`], KADID-10k's level (0 where
/// the file name does not tell), the label.
pub(super) fn distortion(sample: &data::Sample, stage: &Stage) -> Result<DistortionTarget, PlanError> {
    let Some(kind) = describe(sample).kind else {
        return Err(PlanError::Sample {
            stage: stage.name.clone(),
            sample: sample.id.clone(),
            reason:
                "kind: vision needs the distortion, which the file name does not tell; expected one like \
                     I01_10_03.png (photo_type_level)"
                    .into(),
        });
    };
    let level = sample.distortion.as_ref().map_or(0, |d| u32::from(d.level));
    Ok(DistortionTarget { kind: kind as u32, level, quality: sample.mos })
}

/// The cursor as the journal keeps it.
pub(super) fn cursor_text(cursor: Cursor) -> String {
    // Three numbers: nothing that JSON cannot hold.
    serde_json::to_string(&cursor).unwrap_or_default()
}
