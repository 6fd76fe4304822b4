//! What a run must show after something died: told by the workers' own records and by the journal, each held to the
//! other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// A committed step that no restoration voided.
#[derive(Debug)]
pub struct Step {
    /// Its number over all stages.
    pub step: u64,
    /// Which attempt was committed.
    pub attempt: u64,
    /// The ranks that took part.
    pub members: Vec<u64>,
    /// Ids of the samples that it trained on.
    pub samples: BTreeSet<String>,
    /// Steps of the data epoch that the plan has taken after it.
    position: u64,
}

/// A line of a worker's record, and by which incarnation.
#[derive(Debug)]
struct Line {
    incarnation: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Applied { step: u64, attempt: u64, samples: Vec<String> },
    Restored(u64),
}

/// What a rank's weights hold of a step: the attempt and its own share, where it applied the step itself.
type Share = (Option<u64>, Vec<String>);

/// A value of the journal's newest file.
#[must_use]
pub fn journal<T: rusqlite::types::FromSql>(run: &Path, question: &str) -> T {
    let journal = rusqlite::Connection::open(run.join("journal.sqlite")).expect("a journal");
    journal.query_row(question, [], |row| row.get(0)).expect("an answer")
}

/// The steps that count, in order.
#[must_use]
pub fn steps(run: &Path) -> Vec<Step> {
    let journal = rusqlite::Connection::open(run.join("journal.sqlite")).expect("a journal");
    let question = "SELECT step, attempt, members, samples, cursor FROM steps WHERE voided = 0 ORDER BY step";
    let mut rows = journal.prepare(question).expect("a table of steps");
    let step = |row: &rusqlite::Row<'_>| {
        let list = |text: String| serde_json::from_str::<Vec<Value>>(&text).expect("a list");
        let samples = list(row.get(3)?).into_iter().map(|id| id.as_str().expect("an id").to_owned());
        Ok(Step {
            step: row.get::<_, i64>(0)?.unsigned_abs(),
            attempt: row.get::<_, i64>(1)?.unsigned_abs(),
            members: list(row.get(2)?).iter().map(|rank| rank.as_u64().expect("a rank")).collect(),
            samples: samples.collect(),
            position: serde_json::from_str::<Value>(&row.get::<_, String>(4)?).expect("a cursor")["position"]
                .as_u64()
                .expect("a position"),
        })
    };
    rows.query_map([], step).expect("rows").map(|row| row.expect("a row")).collect()
}

fn lines(run: &Path, rank: u64) -> Vec<Line> {
    let text = fs::read_to_string(run.join(format!("logs/applied-rank-{rank}.jsonl"))).unwrap_or_default();
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a JSON line");
        let what = match value["restored"].as_u64() {
            Some(step) => What::Restored(step),
            None => What::Applied {
                step: value["step"].as_u64().expect("a step"),
                attempt: value["attempt"].as_u64().expect("an attempt"),
                samples: serde_json::from_value(value["samples"].clone()).expect("ids"),
            },
        };
        Line { incarnation: value["incarnation"].as_u64().expect("an incarnation"), what }
    };
    text.lines().map(line).collect()
}

/// Holds the workers' records and the journal to each other: every committed step is the next one, no sample is in two
/// steps (of one data epoch), and what each rank applied, or took over from one that had, is what the journal says.
pub fn assert_exactly_once(run: &Path) {
    let steps = steps(run);
    let per_epoch = steps.iter().map(|step| step.position).max().unwrap_or(1).max(1);
    let mut seen: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    for (number, step) in (1..).zip(&steps) {
        assert_eq!(step.step, number, "a step is missing or twice in the journal");
        for sample in &step.samples {
            let before = seen.insert(((number - 1) / per_epoch, sample), number);
            assert_eq!(before, None, "sample {sample} is in step {number} and in that of before");
        }
    }
    let ranks: BTreeSet<u64> = steps.iter().flat_map(|step| step.members.iter().copied()).collect();
    let mut shares: BTreeMap<u64, BTreeMap<u64, Share>> = BTreeMap::new();
    for &rank in &ranks {
        let held = shares.entry(rank).or_default();
        let mut newest = 0;
        for Line { incarnation, what } in lines(run, rank) {
            // What a process does to its own tensors once another has its place is nothing to the run.
            if incarnation < newest {
                continue;
            }
            newest = incarnation;
            match what {
                What::Applied { step, attempt, samples } => {
                    let twice = held.insert(step, (Some(attempt), samples));
                    assert!(twice.is_none(), "rank {rank} applied step {step} twice: {twice:?}");
                }
                What::Restored(to) => {
                    held.retain(|step, _| *step <= to);
                    for step in 1..=to {
                        held.entry(step).or_insert((None, Vec::new()));
                    }
                }
            }
        }
    }
    for step in &steps {
        let mut trained: Vec<&String> = Vec::new();
        let mut taken_over = false;
        for rank in &step.members {
            let held = shares[rank].get(&step.step);
            let (attempt, own) = held.unwrap_or_else(|| panic!("rank {rank} never had step {}", step.step));
            assert!(attempt.is_none_or(|own| own == step.attempt), "rank {rank}, step {}", step.step);
            taken_over |= attempt.is_none();
            trained.extend(own);
        }
        let set: BTreeSet<String> = trained.iter().map(|id| (*id).clone()).collect();
        assert_eq!(set.len(), trained.len(), "step {}: a sample on two ranks: {trained:?}", step.step);
        assert!(set.is_subset(&step.samples), "step {}: {set:?}, not {:?}", step.step, step.samples);
        // The share of a worker that died between the commit and its record is in the gradient that the others applied.
        assert!(taken_over || set == step.samples, "step {}: {set:?}, not {:?}", step.step, step.samples);
    }
}

/// Digests of the newest checkpoint's weight files, by name: equal where the weights are, bit for bit.
#[must_use]
pub fn weights(run: &Path) -> BTreeMap<String, String> {
    let manifest = checkpoint::verify(&run.join("checkpoints/latest")).expect("a checkpoint");
    let files = manifest.files.into_iter().filter(|(name, _)| {
        name.starts_with("model") && Path::new(name).extension().is_some_and(|end| end == "safetensors")
    });
    let weights: BTreeMap<String, String> = files.map(|(name, file)| (name, file.sha256)).collect();
    assert!(!weights.is_empty(), "a checkpoint without weights");
    weights
}
