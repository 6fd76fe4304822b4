//! `worker update`: one optimizer step from recorded rollouts, for debugging and for checking.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use checkpoint::{Manifest, Staging, StateAbout};
use collective::LocalGroup;
use model::{Qwen, is_adapter, peft};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use settings::{Dtype, Reference, Stage, StageKind};
use tch::{Device, Kind, Tensor};
use train::{Completion, Counts, Item, Place, Prepared, Trainer};

use super::request::{self, Loaded, Request};
use crate::adapters;
use crate::device;
use crate::failure::Failure;
use crate::heap;
use crate::inputs::Ready;

/// Arguments of `worker update`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in Hugging Face layout.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines: a request with "completion_ids" (end token included), "advantage" and optionally "old_logprobs",
    /// "rollout_logprobs" and "ref_logprobs"; lines of one id are one sample's responses.
    #[arg(long)]
    rollouts: PathBuf,
    /// The updated weights, a Hugging Face directory that must not exist yet.
    #[arg(long)]
    output: PathBuf,
    /// Also writes the gradients of the loss before clipping, f32, by published name (adapters': PEFT's).
    #[arg(long)]
    gradients: Option<PathBuf>,
    /// Optimizer steps, all from the same rollouts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Also writes the optimizer's state into the output: --resume-from takes it.
    #[arg(long)]
    state: bool,
    /// Goes on from the state in DIR, an output of this command or of `coordinator update` with --state, written by
    /// any number of workers under any sharding; --model stays the model that its training began with.
    #[arg(long, value_name = "DIR")]
    resume_from: Option<PathBuf>,
    /// Writes how long each step took, as JSON: {"tokens" (prompts and completions), "seconds" (a list),
    /// "peak_bytes" (resident)}.
    #[arg(long)]
    measure: Option<PathBuf>,
    /// A recipe whose first stage of kind prpo says how to step; the defaults without one.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Settings over the recipe's, e.g. --set optimizer.lr=1e-3 --set model.dtype=float32.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Compute threads; the machine's cores when absent.
    #[arg(long)]
    threads: Option<u16>,
}

/// What a line of a rollouts file holds beside its request.
#[derive(Debug, Deserialize)]
struct Recorded {
    completion_ids: Vec<u32>,
    advantage: f64,
    #[serde(default)]
    old_logprobs: Vec<f32>,
    #[serde(default)]
    rollout_logprobs: Vec<f32>,
    #[serde(default)]
    ref_logprobs: Vec<f32>,
}

/// The last line of stdout: the last step's numbers.
#[derive(Serialize)]
struct Report {
    loss: f64,
    /// Mean over tokens; 0 without a KL term.
    kl: f64,
    /// Before clipping.
    grad_norm: f64,
    tokens: u64,
}

#[derive(Serialize)]
struct Measure {
    tokens: usize,
    seconds: Vec<f64>,
    peak_bytes: Option<u64>,
}

/// Steps.
///
/// # Errors
/// If the model, a setting, a rollout or a picture cannot be used, the step is not finite, or an output exists or
/// cannot be written.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    if args.output.exists() {
        return Err(Failure::input(format!(
            "{}: exists already, expected a new directory: remove it or name another",
            args.output.display()
        )));
    }
    let device = device::parse(&args.device)?;
    let (stage, kind, seed) = settings(&args)?;
    let samples = by_sample(request::read_lines(&args.rollouts, recorded)?)?;
    if samples.is_empty() {
        return Err(Failure::input(format!(
            "{}: holds no rollout, expected one a line",
            args.rollouts.display()
        )));
    }
    let loaded = Loaded::open(&args.model, Kind::Float, Device::Cpu)?;
    let mut counts = Counts::default();
    let mut items = Vec::with_capacity(samples.len());
    for (request, completions) in samples {
        counts.step.add_sample(completions.iter().map(|c| c.ids.len() as u64));
        let Ready { prompt, pictures } = request.prepare(&loaded.processor)?;
        items.push(Item::Policy { prompt, pixels: request::pixels(&pictures, &loaded.qwen), completions });
    }
    let Loaded { qwen, mut params, .. } = loaded;
    adapters::add(&stage, &args.model, &qwen.config, &mut params).map_err(Failure::input)?;
    let qwen = Qwen::fastest(qwen.config, kind, device);
    let threads = args.threads.map_or(0, u32::from);
    let mut trainer =
        Trainer::seeded(seed, Place::ALONE.into(), qwen, params, &stage, threads, Duration::from_secs(60))
            .map_err(Failure::input)?;
    let done = args.resume_from.as_deref().map_or(Ok(0), |from| resume(&mut trainer, &stage, from))?;
    let (prepared, seconds) = steps(&mut trainer, &items, counts, &stage, &args, done)?;
    if let Some(path) = &args.measure {
        let tokens = items.iter().map(|item| item.tokens(&trainer.model().config)).sum();
        request::write_lines(path, &[Measure { tokens, seconds, peak_bytes: heap::peak_bytes() }])?;
    }
    let dtype = if kind == Kind::Float { Dtype::Float32 } else { Dtype::Bfloat16 };
    export(&mut trainer, &args, dtype)?;
    let tokens = counts.step.tokens;
    let kl = prepared.metrics.get("kl").map_or(0.0, |sum| sum / tokens.max(1) as f64);
    let report = Report { loss: prepared.loss, kl, grad_norm: prepared.grad_norm, tokens };
    println!("{}", serde_json::to_string(&report).map_err(Failure::other)?);
    Ok(())
}

/// Takes up the state in `from`, whose every file is what its manifest says; gives the steps that it has in it.
fn resume(trainer: &mut Trainer, stage: &Stage, from: &Path) -> Result<u64, Failure> {
    let objective = &stage.objective;
    if objective.beta != 0.0 && objective.reference == Reference::Synced {
        return Err(Failure::input(
            "objective.reference is synced: a saved state does not hold that reference policy; use initial or base",
        ));
    }
    let about = StateAbout::read(from).map_err(Failure::input)?;
    checkpoint::verify(from).map_err(Failure::input)?;
    trainer.load_state(from).map_err(Failure::input)?;
    Ok(about.steps)
}

/// Steps after those `done`; gives the last one's numbers and the seconds that each took.
fn steps(
    trainer: &mut Trainer,
    items: &[Item],
    counts: Counts,
    stage: &Stage,
    args: &Args,
    done: u64,
) -> Result<(Prepared, Vec<f64>), Failure> {
    let group = LocalGroup::alone();
    let mut seconds = Vec::new();
    loop {
        let start = Instant::now();
        let step = seconds.len() as u64 + 1;
        let lr = stage.optimizer.lr_at(done + step, stage.steps.max(done + args.steps));
        let prepared = trainer
            .prepare(items, counts, lr, &group, &mut || {})
            .map_err(|e| Failure::input(format!("{}: {e}", args.rollouts.display())))?;
        if !prepared.finite {
            return Err(Failure::other(format!(
                "loss {} and gradient norm {} are not both finite: nothing was written",
                prepared.loss, prepared.grad_norm
            )));
        }
        if let Some(path) = args.gradients.as_ref().filter(|_| step == args.steps) {
            let published = |(name, gradient): (String, Tensor)| {
                let name = if is_adapter(&name) { peft::name(&name) } else { name };
                (name, gradient)
            };
            request::write_gradients(path, trainer.gradients().into_iter().map(published))?;
        }
        trainer.commit(false).map_err(Failure::other)?;
        seconds.push(start.elapsed().as_secs_f64());
        if step == args.steps {
            return Ok((prepared, seconds));
        }
    }
}

/// A line of a rollouts file.
fn recorded(fields: &Map<String, Value>, place: &str) -> Result<(Request, Completion), String> {
    let request = Request::of(fields, place)?;
    let recorded: Recorded =
        serde_json::from_value(Value::Object(fields.clone())).map_err(|e| e.to_string())?;
    let completion = Completion {
        ids: recorded.completion_ids,
        advantage: recorded.advantage,
        old_logprobs: recorded.old_logprobs,
        rollout_logprobs: recorded.rollout_logprobs,
        reference_logprobs: recorded.ref_logprobs,
    };
    Ok((request, completion))
}

/// Writes the weights beside the output and renames them into place: no half-written output.
fn export(trainer: &mut Trainer, args: &Args, dtype: Dtype) -> Result<(), Failure> {
    let mut write = || -> Result<(), train::Error> {
        let staging = Staging::begin(&args.output)?;
        let mut files = trainer.export(&args.model, staging.path(), dtype, &LocalGroup::alone())?;
        if args.state {
            files.extend(trainer.save_state(staging.path())?);
        }
        staging.publish(&Manifest { files, about: BTreeMap::new() })?;
        Ok(())
    };
    write().map_err(|e| Failure::other(format!("{}: {e}", args.output.display())))
}

/// How to step, in which type, and the seed of draws.
fn settings(args: &Args) -> Result<(Stage, Kind, u64), Failure> {
    let run = match &args.recipe {
        Some(recipe) => settings::load_run(recipe, &args.overrides),
        None => settings::default_run(&args.overrides),
    };
    let run = run.map_err(Failure::input)?;
    let kind = match run.model.dtype {
        Dtype::Bfloat16 => Kind::BFloat16,
        Dtype::Float32 => Kind::Float,
    };
    match run.stages.into_iter().find(|stage| stage.kind == StageKind::Prpo) {
        Some(stage) => Ok((stage, kind, run.run.seed)),
        None => Err(Failure::input("the recipe has no stage of kind prpo: rollouts are its alone")),
    }
}

/// The lines of one id together, in the order of their first.
fn by_sample(lines: Vec<(Request, Completion)>) -> Result<Vec<(Request, Vec<Completion>)>, Failure> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut samples: Vec<(Request, Vec<Completion>)> = Vec::new();
    for (request, completion) in lines {
        let place = *places.entry(request.id.clone()).or_insert(samples.len());
        match samples.get_mut(place) {
            None => samples.push((request, vec![completion])),
            Some((first, completions)) if first.same_turn(&request) => completions.push(completion),
            Some(_) => {
                return Err(request.wrong(
                    "its turn is not that of the line before with its id, expected one sample's responses",
                ));
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, prompt: &str, token: u32) -> (Request, Completion) {
        let fields =
            serde_json::json!({"id": id, "prompt": prompt, "completion_ids": [token], "advantage": 1.5});
        recorded(fields.as_object().expect("an object"), "rollouts.jsonl:1").expect("a recorded rollout")
    }

    #[test]
    fn lines_of_one_id_are_one_samples_responses() {
        let samples =
            by_sample(vec![line("b", "p", 1), line("a", "q", 2), line("b", "p", 3)]).expect("agree");
        let seen: Vec<(&str, Vec<u32>)> =
            samples.iter().map(|(r, c)| (r.id.as_str(), c.iter().map(|c| c.ids[0]).collect())).collect();
        assert_eq!(seen, [("b", vec![1, 3]), ("a", vec![2])]);
    }

    #[test]
    fn lines_of_one_id_with_different_prompts_are_refused() {
        let error = by_sample(vec![line("a", "p", 1), line("a", "q", 2)]).expect_err("two turns");
        assert!(error.to_string().contains("request a"), "{error}");
    }
}
