//! `coordinator rewards --run`: a run's recorded rollouts, scored again.

use std::collections::BTreeMap;
use std::path::Path;

use data::Media;
use reward::{Batch, Parts, score};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use settings::{Advantage, Reward};

use crate::failure::Failure;
use crate::journal::{self, RolloutRow};

/// A step's samples of one kind of media; lists are `[B·K]`, sample by sample.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    step: u64,
    attempt: u32,
    media: Media,
    samples: Vec<String>,
    num_generations: usize,
    mos: Vec<f64>,
    accuracy: Vec<f64>,
    format: Vec<f64>,
    advantages: Vec<f64>,
    parts: Parts,
    /// What the run itself gave.
    recorded: Recorded,
}

#[derive(Debug, Serialize)]
struct Recorded {
    rewards: Vec<f64>,
    advantages: Vec<f64>,
    format: Vec<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<String, Vec<f64>>,
}

/// Scores every committed step of the run in `folder` in turn, and gives each to `take`.
///
/// # Errors
/// If the journal cannot be read (2: another program holds it, or it is none), or `take` says so.
pub(super) fn rescore(
    folder: &Path,
    reward: &Reward,
    advantage: Advantage,
    mut take: impl FnMut(&Step) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = folder.join(journal::FILE);
    let of = |e: rusqlite::Error| {
        Failure::input(format!(
            "{}: {e}; expected the journal of a run that is over: nobody else may hold it",
            path.display()
        ))
    };
    if !path.is_file() {
        let what = "there is no journal; expected a run folder";
        return Err(Failure::input(format!("{}: {what}", path.display())));
    }
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(of)?;
    // A try that was given up trained nothing; one that repeated it trained on the rollouts that were there.
    let mut steps = connection
        .prepare("SELECT step, attempt, samples FROM steps WHERE voided = 0 ORDER BY step")
        .map_err(of)?;
    let mut rollouts = connection
        .prepare(
            "SELECT responses FROM rollouts WHERE step = ?1 AND attempt <= ?2 AND sample = ?3 \
             ORDER BY attempt DESC LIMIT 1",
        )
        .map_err(of)?;
    let mut rows = steps.query([]).map_err(of)?;
    while let Some(row) = rows.next().map_err(of)? {
        let (step, attempt): (u64, u32) = (row.get(0).map_err(of)?, row.get(1).map_err(of)?);
        let samples: Vec<String> =
            serde_json::from_str(&row.get::<_, String>(2).map_err(of)?).unwrap_or_default();
        let mut recorded = Vec::new();
        for sample in samples {
            let mut found = rollouts.query((step, attempt, &sample)).map_err(of)?;
            let Some(found) = found.next().map_err(of)? else { continue };
            let text: String = found.get(0).map_err(of)?;
            let row: RolloutRow = serde_json::from_str(&text).map_err(|e| {
                Failure::input(format!(
                    "{}: step {step}, sample {sample:?}: {e}; expected a rollout of this version",
                    path.display()
                ))
            })?;
            recorded.push(RolloutRow { sample, ..row });
        }
        for media in [Media::Image, Media::Video] {
            let rows: Vec<&RolloutRow> = recorded.iter().filter(|row| row.media == media).collect();
            if !rows.is_empty() {
                take(&scored((step, attempt), media, &rows, reward, advantage).map_err(Failure::input)?)?;
            }
        }
    }
    Ok(())
}

fn scored(
    (step, attempt): (u64, u32),
    media: Media,
    rows: &[&RolloutRow],
    reward: &Reward,
    advantage: Advantage,
) -> Result<Step, String> {
    let at = |e: &dyn std::fmt::Display| format!("step {step}: {e}");
    let responses = rows[0].texts.len();
    let mos: Vec<f64> = rows.iter().map(|row| row.mos).collect();
    let completions: Vec<String> = rows.iter().flat_map(|row| row.texts.iter().cloned()).collect();
    let kind = match media {
        Media::Image => reward::Media::Image,
        Media::Video => reward::Media::Video,
    };
    let batch = Batch { media: kind, responses, mos: &mos, completions: &completions };
    let scored = score(batch, reward).map_err(|e| at(&e))?;
    let advantages = grpo::advantages(&scored.reward, responses, advantage).map_err(|e| at(&e))?.values;
    let of = |list: fn(&RolloutRow) -> &Vec<f64>| rows.iter().flat_map(|row| list(row).clone()).collect();
    let mut parts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, values) in rows.iter().flat_map(|row| &row.parts) {
        parts.entry(name.clone()).or_default().extend(values);
    }
    Ok(Step {
        step,
        attempt,
        media,
        samples: rows.iter().map(|row| row.sample.clone()).collect(),
        num_generations: responses,
        mos,
        accuracy: scored.accuracy,
        format: scored.format,
        advantages,
        parts: scored.parts,
        recorded: Recorded {
            rewards: of(|row| &row.rewards),
            advantages: of(|row| &row.advantages),
            format: of(|row| &row.formats),
            parts,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Record, StepRecord};
    use crate::journal::{Claim, Journal, RunRow};
    use settings::{Misordered, RewardKind};

    fn row(sample: &str, mos: f64, scores: [f64; 2]) -> RolloutRow {
        let text =
            |score: &f64| format!("<think>t</think><answer>\n{}</answer>", format!("{score}\n").repeat(5));
        RolloutRow {
            sample: sample.into(),
            media: Media::Image,
            mos,
            images: Vec::new(),
            prompt: "How good?".into(),
            texts: scores.iter().map(text).collect(),
            ids: vec![vec![1]; 2],
            logprobs: vec![vec![-1.0]; 2],
            scores: scores.to_vec(),
            formats: vec![1.0; 2],
            parts: BTreeMap::from([("pairwise".to_owned(), vec![0.5; 2])]),
            rewards: vec![1.0, 2.0],
            advantages: vec![-0.7, 0.7],
        }
    }

    fn run(folder: &Path) {
        let run = RunRow { id: "a".into(), recipe_digest: "d".into(), recipe: "{}".into() };
        let claim = Claim { term: 1, owner: "process 7 on here", at: 1.0 };
        let (mut journal, _) = Journal::open(folder, claim, &run, false, &|| Ok(())).expect("new");
        journal.rollouts(1, 1, &[row("discarded", 1.0, [1.0, 1.0])]).expect("recorded");
        journal.rollouts(1, 2, &[row("b", 4.0, [4.0, 1.0]), row("a", 2.0, [2.0, 3.0])]).expect("recorded");
        let step = StepRecord {
            step: 1,
            stage: 0,
            number: 1,
            attempt: 2,
            skip: false,
            lr: 1.0,
            members: vec![0],
            cursor: "{}".into(),
            samples: vec!["b".into(), "a".into()],
            metrics: BTreeMap::new(),
        };
        journal.record(&Record::Step(step), 2.0).expect("recorded");
    }

    fn rescored(folder: &Path, reward: &Reward) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        rescore(folder, reward, Advantage::Std, |step| {
            lines.push(serde_json::to_value(step).expect("JSON"));
            Ok(())
        })
        .expect("scored");
        lines
    }

    #[test]
    fn a_runs_committed_rollouts_are_scored_by_another_reward() {
        let folder = tempfile::tempdir().expect("a folder");
        run(folder.path());
        let mut reward = Reward::default();
        let published = rescored(folder.path(), &reward);
        assert_eq!(published.len(), 1);
        assert_eq!(published[0]["samples"], serde_json::json!(["b", "a"]), "the plan's order");
        assert_eq!(published[0]["recorded"]["rewards"], serde_json::json!([1.0, 2.0, 1.0, 2.0]));
        assert_eq!(published[0]["recorded"]["parts"]["pairwise"].as_array().map(Vec::len), Some(4));
        // (1 and 2 at rank 0): people see 4 above 2; published pays for the wrong order, zero does not.
        reward.parts.misordered = Misordered::Zero;
        let zero = rescored(folder.path(), &reward);
        assert_ne!(published[0]["parts"]["pairwise"], zero[0]["parts"]["pairwise"]);
        reward.kind = RewardKind::VisualQualityR1;
        let other = rescored(folder.path(), &reward);
        assert_eq!(other[0]["parts"]["pred"], serde_json::json!([4.0, 1.0, 2.0, 3.0]));
    }

    #[test]
    fn a_folder_without_a_journal_is_told_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = rescore(folder.path(), &Reward::default(), Advantage::Std, |_| Ok(())).expect_err("none");
        assert!(said.exit_code == 2 && said.message.contains("there is no journal"), "{said}");
    }
}
