//! How much a step computes with: tokens, and how they fall into micro-batches.

use settings::{Stage, StageKind};

use super::World;
use super::facts::StageFacts;

/// Bytes of English that one token of the published tokenizer stands for, about.
const BYTES_A_TOKEN: f64 = 4.5;
/// The chat template's own tokens: system turn, roles, vision marks.
const TEMPLATE: f64 = 25.0;
/// A supervised answer, tokens.
const ANSWER: f64 = 60.0;

/// The tokens of a step, at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    /// Samples a step.
    pub(crate) samples: f64,
    /// Of a sample's prompt, pictures included.
    pub(crate) prompt: f64,
    /// Of them, its pictures'.
    pub(crate) pictures: f64,
    /// Responses a sample.
    pub(crate) responses: f64,
    /// Of a response.
    pub(crate) completion: f64,
    /// Micro-batches of the rank that has most.
    pub(crate) micro_batches: u64,
    /// Samples of the rank that has most.
    pub(crate) share: f64,
    /// Tokens of the largest micro-batch.
    pub(crate) largest: f64,
}

impl Load {
    pub(crate) fn of(stage: &Stage, facts: &StageFacts, world: World) -> Self {
        // A vision stage shows pictures and asks nothing.
        let text = match stage.kind {
            StageKind::Vision => 0.0,
            StageKind::Sft | StageKind::Prpo => facts.question_bytes / BYTES_A_TOKEN + TEMPLATE,
        };
        let prompt = (text + facts.picture_tokens).ceil();
        let (responses, completion) = match stage.kind {
            StageKind::Prpo => (f64::from(stage.rollout.responses), f64::from(stage.rollout.max_new_tokens)),
            StageKind::Sft => (1.0, ANSWER),
            StageKind::Vision => (1.0, 0.0),
        };
        let samples = f64::from(stage.parallel.samples_per_step);
        let share = (samples / world.ranks as f64).ceil();
        let of_sample = prompt + responses * completion;
        let budget = f64::from(stage.parallel.token_budget);
        // A sample is never cut: a micro-batch holds one at least.
        let together = (budget / of_sample).floor().clamp(1.0, share);
        Self {
            samples,
            prompt,
            pictures: facts.picture_tokens,
            responses,
            completion,
            micro_batches: (share / together).ceil() as u64,
            share,
            largest: together * of_sample,
        }
    }

    /// Of the whole step: prompts once a sample, every completion.
    pub(crate) fn tokens(&self) -> f64 {
        self.samples * (self.prompt + self.responses * self.completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_count_once_a_sample_and_micro_batches_hold_whole_samples() {
        let run = settings::default_run(&["parallel.token_budget=4000".into()]).expect("settings");
        let facts = StageFacts { picture_tokens: 252.0, question_bytes: 450.0, declared: Vec::new() };
        let load = Load::of(&run.stages[0], &facts, World { ranks: 4, per_node: 4 });
        assert_eq!((load.prompt, load.tokens()), (377.0, 32.0 * (377.0 + 6.0 * 256.0)));
        assert_eq!((load.share, load.micro_batches, load.largest), (8.0, 4, 2.0 * (377.0 + 1536.0)));
    }
}
