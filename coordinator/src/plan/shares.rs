//! Samples as the wire has them, and who works on which.

use std::collections::BTreeMap;

use data::{Occasion, cost, place, prompt};
use proto::v1::Sample;
use settings::Stage;

use super::{by_rank, sample_seed};
use crate::engine::Rank;

/// Patches of a picture whose size is left to the processor: the coordinator does not open pictures, and a
/// constant keeps the placement a matter of tokens.
const PATCHES: u64 = 1024;
/// Side of a patch, pixels.
const PATCH: u64 = 14;
/// Bytes a token, roughly: what a prompt costs before anybody has tokenised it.
const BYTES_A_TOKEN: u64 = 4;

/// A training sample as workers get it. A picture is augmented alike whenever a step is repeated, and in the
/// rollout as in the update.
pub(super) fn wire_sample(sample: &data::Sample, stage: &Stage, occasion: Occasion) -> Sample {
    let data = &stage.data;
    let augmented = data.crop.is_some() || data.flip || data.permute_channels;
    Sample {
        id: sample.id.clone(),
        images: images(sample),
        prompt: prompt(sample, &data.prompts, data.video, occasion),
        // A video's frames stay as they are: a cut of a mosaic is no mosaic.
        augment_seed: (augmented && !is_video(sample)).then(|| sample_seed("augment", occasion, &sample.id)),
        video: is_video(sample),
        add_vision_id: false,
    }
}

pub(super) fn is_video(sample: &data::Sample) -> bool {
    sample.media == data::Media::Video
}

/// The pictures' paths, absolute: workers have their own current folder.
pub(super) fn images(sample: &data::Sample) -> Vec<String> {
    let absolute = |path| std::path::absolute(path).unwrap_or_else(|_| std::path::PathBuf::from(path));
    sample.images.iter().map(|path| absolute(path.as_path()).display().to_string()).collect()
}

/// What working on a sample costs, in [`cost`]'s units; `answer_tokens`: all completions.
pub(super) fn sample_cost(sample: &Sample, stage: &Stage, answer_tokens: u64) -> u64 {
    let picture = match (stage.data.crop, stage.data.max_pixels) {
        (Some(side), _) => (u64::from(side) / PATCH).pow(2),
        (None, Some(pixels)) => PATCHES.min(u64::from(pixels) / (PATCH * PATCH)),
        (None, None) => PATCHES,
    };
    let pictures = match sample.images.len() {
        1 if sample.video => data::VIDEO_PICTURES,
        count => count,
    };
    let patches = picture * pictures as u64;
    cost(sample.prompt.len() as u64 / BYTES_A_TOKEN + patches / 4 + answer_tokens, patches)
}

/// Shares items out so that the ranks' costs are alike.
pub(super) fn share<T>(items: Vec<T>, costs: &[u64], world: &[Rank]) -> BTreeMap<Rank, Vec<T>> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let mut take = |i: usize| items.get_mut(i).and_then(Option::take);
    let shares = place(costs, world.len())
        .into_iter()
        .map(|places| places.into_iter().filter_map(&mut take).collect());
    by_rank(shares.collect(), world)
}
