//! `worker infer`: scores of pictures and videos.

mod journal;
mod listing;
mod verdict;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use data::{Media, evaluation_prompt};
use model::{DrawKey, Limits, Request, Rollout, Sampling};
use proto::v1::Sample;
use serde_json::{Value, json};

use self::journal::Journal;
use self::listing::Item;
use self::verdict::{Rule, Verdict};
use super::request::{self, Dtype, Loaded};
use crate::ahead::{self, ahead};
use crate::device;
use crate::failure::Failure;
use crate::inputs::{Inputs, Ready};

/// Arguments of `worker infer`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["images", "videos", "list"])))]
pub struct Args {
    /// A directory in Hugging Face layout.
    #[arg(long)]
    model: PathBuf,
    /// A folder of pictures.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A folder of videos, or of their pictures NAME_0.png (mosaic) to NAME_3.png (single frames).
    #[arg(long, value_name = "DIR")]
    videos: Option<PathBuf>,
    /// A text file, the path of a picture or video a line.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// The folder that the list's paths are relative to; the current one when absent.
    #[arg(long, value_name = "DIR", requires = "list")]
    root: Option<PathBuf>,
    /// "path score" a line. FILE.failures gets what could not be judged, a JSON line {"path", "error"} each; FILE.progress
    /// holds what is done until all is.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// JSON lines: {"path", "score", "aspects": [[…] a response], "texts": [a response]}.
    #[arg(long, value_name = "FILE")]
    reasoning: Option<PathBuf>,
    /// The question, instead of the published one; the words about the answer's form are added.
    #[arg(long)]
    question: Option<String>,
    /// Which of an answer's numbers is its score.
    #[arg(long, value_enum, default_value = "mean")]
    score: Rule,
    /// Responses of which the mean counts.
    #[arg(long, default_value_t = 1)]
    responses: u32,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Length bound of a response, tokens.
    #[arg(long, default_value_t = 512)]
    max_new_tokens: usize,
    /// Names the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Items judged together.
    #[arg(long, default_value = "8")]
    batch: NonZeroUsize,
    /// Least area of a resized picture, pixels; the model's own when absent.
    #[arg(long)]
    min_pixels: Option<u32>,
    /// Greatest area of a resized picture, pixels; the model's own when absent.
    #[arg(long)]
    max_pixels: Option<u32>,
    /// The longest side of the pictures that are made of a video, pixels.
    #[arg(long)]
    longest_side: Option<u32>,
    /// A folder that keeps the pictures made of videos.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Compute type.
    #[arg(long, value_enum, default_value = "float32")]
    dtype: Dtype,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads that compute, and that prepare pictures; the machine's cores when absent.
    #[arg(long)]
    threads: Option<u16>,
}

/// Judges everything that is asked for; goes on with an interrupted output.
///
/// # Errors
/// If the model, a setting or the listing cannot be used, nothing at all can be judged, or an output not be written. An
/// input that cannot be read, and an answer without a number, is a line in the failures.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let device = device::parse(&args.device)?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(i32::from(threads.max(1)));
    }
    let (temperature, max_new_tokens) = (args.temperature, args.max_new_tokens);
    let sampling = Sampling { temperature, max_new_tokens, ..Sampling::default() };
    sampling.check().map_err(Failure::input)?;
    if args.responses == 0 {
        return Err(Failure::input("--responses 0: expected at least 1"));
    }
    let items = listed(&args)?;
    let (mut journal, done) = Journal::open(&args.output, &how(&args)?)?;
    let mut verdicts: Vec<Verdict> = done.into_iter().flatten().collect();
    let same = verdicts.iter().zip(&items).all(|(verdict, item)| verdict.path() == item.name);
    if !same || verdicts.len() > items.len() {
        return Err(Failure::input(format!(
            "{}.progress: what is to be judged has changed since it was begun; remove it to begin anew",
            args.output.display()
        )));
    }
    if verdicts.len() < items.len() {
        let loaded = Loaded::open(&args.model, args.dtype.kind(), device)?;
        let left = &items[verdicts.len()..];
        judge(&args, loaded, &sampling, left, &mut |batch| {
            journal.add(&batch)?;
            verdicts.extend(batch);
            tracing::info!("judged {} of {}", verdicts.len(), items.len());
            Ok(())
        })?;
    }
    write(&args, &verdicts)?;
    journal.finish()?;
    let failed = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Failed { .. })).count();
    if failed == verdicts.len() {
        return Err(Failure::input(format!(
            "none of the {failed} inputs could be judged: {}.failures says why",
            args.output.display()
        )));
    }
    Ok(())
}

fn listed(args: &Args) -> Result<Vec<Item>, Failure> {
    match (&args.images, &args.videos, &args.list) {
        (Some(folder), ..) => listing::pictures(folder),
        (_, Some(folder), _) => listing::videos(folder),
        (_, _, Some(file)) => listing::list(file, args.root.as_deref().unwrap_or(Path::new(""))),
        _ => Err(Failure::input("nothing to judge: give --images, --videos or --list")),
    }
}

/// All that decides what an answer is.
fn how(args: &Args) -> Result<Value, Failure> {
    let model = fs::canonicalize(&args.model).map_err(|e| {
        Failure::input(format!("{}: {e}; expected a model's directory", args.model.display()))
    })?;
    Ok(json!({
        "model": model.display().to_string(),
        "dtype": format!("{:?}", args.dtype),
        "device": args.device,
        "threads": args.threads,
        "question": args.question,
        "score": args.score,
        "responses": args.responses,
        "temperature": args.temperature,
        "max_new_tokens": args.max_new_tokens,
        "seed": args.seed,
        "batch": args.batch,
        "min_pixels": args.min_pixels,
        "max_pixels": args.max_pixels,
        "longest_side": args.longest_side,
    }))
}

/// Judges items batch by batch; pictures of the next ones are prepared meanwhile.
fn judge(
    args: &Args,
    loaded: Loaded,
    sampling: &Sampling,
    items: &[Item],
    done: &mut dyn FnMut(Vec<Verdict>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let data = settings::Data {
        min_pixels: args.min_pixels,
        max_pixels: args.max_pixels,
        longest_side: args.longest_side,
        frame_cache: args.cache.clone(),
        ..settings::Data::default()
    };
    let Loaded { qwen, params, processor } = loaded;
    let inputs = Inputs::new(processor, &data);
    let processor = inputs.processor();
    let prepare = |item: &Item| {
        let line = item.name.chars().any(char::is_control) || item.files.iter().any(|f| f.to_str().is_none());
        if line {
            return Err("its name has a line break or is no UTF-8: it cannot stand in a text file".to_owned());
        }
        inputs.prompt(&sample(item, args.question.as_deref()))
    };
    let key = DrawKey { seed: args.seed, ..DrawKey::default() };
    ahead(ahead::threads(), items.iter(), prepare, |prepared| {
        for batch in items.chunks(args.batch.get()) {
            let ready: Vec<Result<Ready, String>> = batch.iter().map_while(|_| prepared.next()).collect();
            let judged =
                batch.iter().zip(&ready).filter_map(|(item, ready)| Some((item, ready.as_ref().ok()?)));
            let requests: Vec<Request<'_>> = judged
                .map(|(item, ready)| Request {
                    id: &item.name,
                    prompt: &ready.prompt,
                    pictures: ready.pictures.iter().collect(),
                    responses: args.responses,
                })
                .collect();
            let mut answers = Vec::new();
            if !requests.is_empty() {
                let (special, limits) = (&processor.special, Limits::default());
                let mut rollout = Rollout::new(&qwen, &params, &requests, sampling, special, key, limits);
                while rollout.step() {}
                answers = rollout.finish();
            }
            let mut answers = answers.into_iter();
            let mut verdicts = Vec::with_capacity(batch.len());
            for (item, ready) in batch.iter().zip(&ready) {
                let path = item.name.clone();
                verdicts.push(match ready {
                    Err(error) => Verdict::Failed { path, error: error.clone() },
                    Ok(_) => {
                        let drawn = answers.next().unwrap_or_default();
                        let texts: Result<Vec<String>, _> =
                            drawn.iter().map(|response| processor.decode(&response.ids)).collect();
                        let media = if item.video { reward::Media::Video } else { reward::Media::Image };
                        Verdict::of(path, texts.map_err(Failure::other)?, media, args.score)
                    }
                });
            }
            done(verdicts)?;
        }
        Ok(())
    })
}

/// An item as the wire has it: the question is asked as in evaluation.
fn sample(item: &Item, question: Option<&str>) -> Sample {
    let asked = data::Sample {
        id: item.name.clone(),
        dataset: String::new(),
        media: if item.video { Media::Video } else { Media::Image },
        images: Vec::new(),
        question: question.unwrap_or_default().to_owned(),
        mos: 0.0,
        reference: String::new(),
        distortion: None,
    };
    Sample {
        id: item.name.clone(),
        images: item.files.iter().map(|file| file.display().to_string()).collect(),
        prompt: evaluation_prompt(&asked),
        augment_seed: None,
        video: item.video,
    }
}

fn write(args: &Args, verdicts: &[Verdict]) -> Result<(), Failure> {
    let (mut scores, mut scored, mut failed) = (String::new(), Vec::new(), Vec::new());
    for verdict in verdicts {
        match verdict {
            Verdict::Scored { path, score, .. } => {
                scores.push_str(&format!("{path} {score}\n"));
                scored.push(verdict);
            }
            Verdict::Failed { .. } => failed.push(verdict),
        }
    }
    if let Some(path) = &args.reasoning {
        request::write_lines(path, &scored)?;
    }
    request::write_lines(&beside(&args.output, ".failures"), &failed)?;
    request::in_place(&args.output, |partial| fs::write(partial, &scores))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
