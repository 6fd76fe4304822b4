//! `coordinator rewards`: scores recorded responses, a JSON line per line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use reward::{Batch, Media, Parts, score};
use serde::{Deserialize, Serialize};
use settings::{Advantage, Reward, RewardKind, Run, StageKind};

use super::rescore::rescore;
use crate::failure::Failure;
use crate::tell;

/// Arguments of `coordinator rewards`.
#[derive(clap::Args)]
pub struct Args {
    /// A batch a line: {"kind": "iqa", "vqa" or "visualquality_r1", "num_generations": K, "mos": [B numbers],
    /// "completions": [B·K texts]}; other keys are ignored.
    #[arg(long, value_name = "BATCHES.jsonl", required_unless_present = "run")]
    pub input: Option<PathBuf>,
    /// Scores the rollouts of this run's committed steps instead: a line a step, with what the run itself gave under
    /// "recorded". Without a recipe by the run's own.
    #[arg(long, value_name = "RUNDIR", conflicts_with = "input")]
    pub run: Option<PathBuf>,
    /// Takes the constants and the form of the advantage from this recipe's first PRPO stage; the published
    /// ones without it.
    #[arg(long, value_name = "RUN.yaml")]
    pub recipe: Option<PathBuf>,
    /// Lays a value over the recipe's; may be given many times.
    #[arg(long = "set", value_name = "key=value")]
    pub set: Vec<String>,
}

/// One line of the input.
#[derive(Deserialize)]
struct Line {
    kind: Kind,
    num_generations: usize,
    mos: Vec<f64>,
    completions: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Iqa,
    Vqa,
    #[serde(rename = "visualquality_r1")]
    VisualQualityR1,
}

/// One line of the output; lists are `[B·K]`, sample by sample.
#[derive(Serialize)]
struct Output {
    accuracy: Vec<f64>,
    format: Vec<f64>,
    advantages: Vec<f64>,
    parts: Parts,
}

/// Scores every line of the input.
///
/// # Errors
/// If the recipe or a line is broken (2); the lines before it are printed.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { input, run, recipe, set } = args;
    let recipe = recipe.or_else(|| run.as_ref().map(|run| run.join("recipe.yaml")));
    let (reward, advantage) = match recipe {
        Some(recipe) => first_prpo_stage(&recipe, &set)?,
        None => of_stage(settings::default_run(&set).map_err(Failure::input)?, "the defaults")?,
    };
    let Some(input) = input else {
        let run = run.ok_or_else(|| Failure::input("give --input BATCHES.jsonl or --run RUNDIR"))?;
        return rescore(&run, &reward, advantage, |step| {
            tell::out(serde_json::to_string(step).map_err(Failure::other)?)
        });
    };
    let name = input.display().to_string();
    let file = File::open(&input).map_err(|e| Failure::input(format!("{name}: {e}")))?;
    match score_lines(
        BufReader::new(file),
        &name,
        &reward,
        advantage,
        BufWriter::new(std::io::stdout().lock()),
    ) {
        // Whoever reads our output has seen enough.
        Err(Stop::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(Stop::Output(e)) => Err(Failure::other(format!("stdout: {e}"))),
        Err(Stop::Input(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

/// A key of `set` counts for the stage whatever the stage itself has: a run's own recipe has everything.
fn first_prpo_stage(recipe: &Path, set: &[String]) -> Result<(Reward, Advantage), Failure> {
    let plain = settings::load_run(recipe, &[]).map_err(Failure::input)?;
    let index = plain.stages.iter().position(|stage| stage.kind == StageKind::Prpo).unwrap_or_default();
    let own = |set: &String| match set.starts_with("stages.") {
        true => set.clone(),
        false => format!("stages.{index}.{set}"),
    };
    let set: Vec<String> = set.iter().map(own).collect();
    of_stage(settings::load_run(recipe, &set).map_err(Failure::input)?, &recipe.display().to_string())
}

fn of_stage(run: Run, recipe: &str) -> Result<(Reward, Advantage), Failure> {
    let stage = run.stages.into_iter().find(|stage| stage.kind == StageKind::Prpo);
    let stage = stage.ok_or_else(|| {
        Failure::input(format!("{recipe}: no stage of kind prpo: expected one whose reward to use"))
    })?;
    Ok((stage.reward, stage.objective.advantage))
}

/// Why the lines ended early.
enum Stop {
    Input(Failure),
    Output(std::io::Error),
}

fn score_lines(
    input: impl BufRead,
    name: &str,
    reward: &Reward,
    advantage: Advantage,
    mut output: impl Write,
) -> Result<(), Stop> {
    let result = input.split(b'\n').enumerate().try_for_each(|(i, line)| {
        let at = |problem: &dyn std::fmt::Display| {
            Stop::Input(Failure::input(format!("{name}:{}: {problem}", i + 1)))
        };
        let line = line.map_err(|e| at(&e))?;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: Line = serde_json::from_slice(&line).map_err(|e| at(&in_line(&e)))?;
        let scored = score_line(&line, reward, advantage).map_err(|e| at(&e))?;
        serde_json::to_writer(&mut output, &scored).map_err(|e| Stop::Output(e.into()))?;
        output.write_all(b"\n").map_err(Stop::Output)
    });
    output.flush().map_err(Stop::Output)?;
    result
}

/// A JSON error without its line, which is always the first of one.
fn in_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

fn score_line(line: &Line, reward: &Reward, advantage: Advantage) -> Result<Output, reward::Error> {
    let (media, kind) = match line.kind {
        Kind::Iqa => (Media::Image, RewardKind::Prpo),
        Kind::Vqa => (Media::Video, RewardKind::Prpo),
        Kind::VisualQualityR1 => (Media::Image, RewardKind::VisualQualityR1),
    };
    let settings = Reward { kind, ..reward.clone() };
    let batch =
        Batch { media, responses: line.num_generations, mos: &line.mos, completions: &line.completions };
    let scored = score(batch, &settings)?;
    let advantages = grpo::advantages(&scored.reward, line.num_generations, advantage)
        .expect("B·K finite rewards, as score promises")
        .values;
    Ok(Output { accuracy: scored.accuracy, format: scored.format, advantages, parts: scored.parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &str) -> (Vec<serde_json::Value>, Option<String>) {
        let mut output = Vec::new();
        let result =
            score_lines(input.as_bytes(), "batches.jsonl", &Reward::default(), Advantage::Std, &mut output);
        let output = String::from_utf8(output).expect("text");
        let printed = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let failure = match result {
            Ok(()) => None,
            Err(Stop::Input(failure)) => {
                assert_eq!(failure.exit_code, 2);
                Some(failure.message)
            }
            Err(Stop::Output(e)) => panic!("{e}"),
        };
        (printed, failure)
    }

    #[test]
    fn every_line_has_its_rewards_and_answers_in_it_are_ignored() {
        let input = r#"{"kind":"iqa","num_generations":2,"mos":[2,4.0],"completions":["1","2","","4"],"accuracy":"x"}
{"kind":"vqa","num_generations":1,"mos":[2],"completions":["<think></think><answer>1\n2\n</answer>"]}
{"kind":"visualquality_r1","num_generations":2,"mos":[2,3],"completions":["1","2","3","4"]}"#;
        let (printed, failure) = lines(input);
        assert_eq!(failure, None);
        assert_eq!(printed.len(), 3);
        for line in &printed {
            let keys: Vec<_> = line.as_object().expect("an object").keys().collect();
            assert_eq!(keys, ["accuracy", "format", "advantages", "parts"]);
        }
        assert_eq!(printed[0]["advantages"].as_array().map(Vec::len), Some(4));
        assert_eq!(printed[1]["format"], serde_json::json!([1.0]));
        assert_eq!(printed[1]["advantages"], serde_json::json!([0.0]));
        assert!(printed[0]["parts"].get("rank").is_some());
        assert!(printed[1]["parts"].get("rank").is_none());
    }

    #[test]
    fn a_broken_line_says_where_and_the_lines_before_it_are_printed() {
        let good = r#"{"kind":"vqa","num_generations":1,"mos":[2],"completions":["1"]}"#;
        for (broken, expected) in [
            ("{", "batches.jsonl:2: EOF while parsing an object at column 1"),
            (r#"{"kind":"aqa"}"#, "batches.jsonl:2: unknown variant `aqa`, expected one of `iqa`, `vqa`"),
            (
                r#"{"kind":"iqa","num_generations":2,"mos":[2]}"#,
                "batches.jsonl:2: missing field `completions`",
            ),
            (
                r#"{"kind":"iqa","num_generations":2,"mos":[2],"completions":["1"]}"#,
                "batches.jsonl:2: 1 completions for 1 samples of 2 responses: expected 1 × 2",
            ),
            (
                r#"{"kind":"iqa","num_generations":2,"mos":[NaN],"completions":[]}"#,
                "batches.jsonl:2: expected value",
            ),
        ] {
            let (printed, failure) = lines(&format!("{good}\n{broken}\n{good}\n"));
            assert_eq!(printed.len(), 1);
            let failure = failure.expect("a failure");
            assert!(failure.starts_with(expected), "{failure}");
        }
    }
}
