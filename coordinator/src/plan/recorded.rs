//! Rollouts that were recorded before: every step trains on all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use data::Cursor;
use proto::v1::train_item::Target;
use proto::v1::{Completion, Counts, PolicyTarget, Sample, TrainItem};
use serde::Deserialize;
use settings::Stage;

use super::share;
use super::shares::sample_cost;
use super::supervised::cursor_text;
use crate::engine::{Choice, Rank, UpdateWork};
use crate::failure::Failure;

/// A line of a rollouts file; what else it holds is left to others.
#[derive(Debug, Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    images: Vec<PathBuf>,
    prompt: String,
    #[serde(default)]
    add_vision_id: bool,
    completion_ids: Vec<u32>,
    advantage: f64,
    #[serde(default)]
    old_logprobs: Vec<f32>,
    #[serde(default)]
    rollout_logprobs: Vec<f32>,
    #[serde(default)]
    ref_logprobs: Vec<f32>,
}

/// Samples with their recorded responses.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    samples: Vec<(Sample, Vec<Completion>)>,
    /// Steps that the learning rate's schedule goes over.
    schedule: u64,
    /// Of them, those that were taken before this run.
    done: u64,
}

impl Recorded {
    /// Reads a file of JSON lines; lines of one id are one sample's responses. The learning rate falls over
    /// `schedule` steps, of which `done` were taken before.
    ///
    /// # Errors
    /// If the file, a line or a picture cannot be used, with its place.
    pub fn read(path: &Path, schedule: u64, done: u64) -> Result<Self, Failure> {
        let text =
            fs::read_to_string(path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
        let mut recorded = Self { samples: Vec::new(), schedule, done };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |e: String| Failure::input(format!("{}:{}: {e}", path.display(), number + 1));
            let line: Line = serde_json::from_str(line).map_err(|e| {
                wrong(format!(
                    "{e}; expected {{\"id\", \"images\", \"prompt\", \"completion_ids\", \"advantage\", …}}"
                ))
            })?;
            recorded.add(line).map_err(wrong)?;
        }
        if recorded.samples.is_empty() {
            return Err(Failure::input(format!("{}: holds no rollout, expected one a line", path.display())));
        }
        Ok(recorded)
    }

    fn add(&mut self, line: Line) -> Result<(), String> {
        let Line { id, images, prompt, completion_ids: ids, advantage, .. } = line;
        if ids.is_empty() || !advantage.is_finite() {
            return Err(format!("request {id}: no tokens to train on, or no finite advantage"));
        }
        let mut paths = Vec::with_capacity(images.len());
        for image in images {
            let path = std::path::absolute(&image).unwrap_or_else(|_| image.clone());
            if !path.is_file() {
                return Err(format!("request {id}: {}: no such file, expected a picture", path.display()));
            }
            paths.push(path.display().to_string());
        }
        let add_vision_id = line.add_vision_id;
        let sample = Sample { id, images: paths, prompt, add_vision_id, ..Sample::default() };
        let completion = Completion {
            ids,
            advantage,
            old_logprobs: line.old_logprobs,
            rollout_logprobs: line.rollout_logprobs,
            ref_logprobs: line.ref_logprobs,
        };
        match self.samples.iter_mut().find(|(known, _)| known.id == sample.id) {
            None => self.samples.push((sample, vec![completion])),
            Some((known, completions)) if *known == sample => completions.push(completion),
            Some(_) => {
                return Err(format!(
                    "request {}: its turn is not that of the line before with its id, expected one sample's responses",
                    sample.id
                ));
            }
        }
        Ok(())
    }

    /// What step `number` of the stage trains on, of the samples of `choice`, shared out to `world`.
    pub(super) fn update(&self, stage: &Stage, number: u64, world: &[Rank], choice: &Choice) -> UpdateWork {
        let held = || self.samples.iter().filter(|(sample, _)| choice.holds(&sample.id));
        let mut counts = grpo::Counts::default();
        let (mut items, mut costs) = (Vec::new(), Vec::new());
        for (sample, completions) in held() {
            let lengths = completions.iter().map(|c| c.ids.len() as u64);
            counts.add_sample(lengths.clone());
            costs.push(sample_cost(sample, stage, lengths.sum()));
            let target = PolicyTarget { completions: completions.clone() };
            items.push(TrainItem { sample: Some(sample.clone()), target: Some(Target::Policy(target)) });
        }
        let grpo::Counts { samples, completions, tokens } = counts;
        UpdateWork {
            lr: stage.optimizer.lr_at(self.done + number, self.schedule),
            counts: Counts { samples, completions, tokens, weight: 0.0 },
            items: share(items, &costs, world),
            samples: held().map(|(sample, _)| sample.id.clone()).collect(),
            cursor: cursor_text(Cursor::default()),
            metrics: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Recorded, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("writable");
        Recorded::read(file.path(), 1, 0).map_err(|failure| failure.message)
    }

    fn line(id: &str, prompt: &str, ids: &str) -> String {
        format!("{{\"id\":\"{id}\",\"prompt\":\"{prompt}\",\"completion_ids\":{ids},\"advantage\":1.5}}\n")
    }

    #[test]
    fn lines_of_one_id_are_one_samples_responses_and_ranks_share_samples() {
        let text = [line("b", "p", "[1]"), line("a", "q", "[2,3]"), line("b", "p", "[4]")].concat();
        let recorded = read(&text).expect("good lines");
        let run = settings::default_run(&[]).expect("defaults");
        let work = recorded.update(&run.stages[0], 1, &[0, 1], &Choice::default());
        assert_eq!((work.counts.samples, work.counts.completions, work.counts.tokens), (2, 3, 4));
        assert_eq!(work.samples, ["b", "a"]);
        assert!(work.items.values().all(|items| items.len() == 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = |text: &str| read(text).expect_err("wrong");
        assert!(wrong("").contains("holds no rollout"));
        assert!(wrong("{\"id\":\"a\",\"prompt\":\"p\"}").contains(":1: missing field `completion_ids`"));
        assert!(wrong(&line("a", "p", "[]")).contains(":1: request a: no tokens"));
        let two = line("a", "p", "[1]") + &line("a", "q", "[1]");
        assert!(wrong(&two).contains(":2: request a: its turn"));
        let lost = line("a", "p", "[1]").replace("\"prompt\"", "\"images\":[\"none.png\"],\"prompt\"");
        assert!(wrong(&lost).contains("none.png: no such file"));
    }
}
