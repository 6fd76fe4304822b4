//! `worker infer`: scores of pictures and videos.

use data::{Media, evaluation_prompt};
use judge::{Asked, Done, Item, Journal, Share, Verdict, Work};
use model::{DrawKey, Limits, Request, Rollout, Sampling};
use proto::v1::Sample;
use serde_json::json;
use settings::VideoInput;

use super::request::{self, Loaded};
use crate::ahead::{self, ahead};
use crate::device;
use crate::failure::Failure;
use crate::inputs::{Inputs, Ready};

/// Arguments of `worker infer`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads that compute, and that prepare pictures; the machine's cores when absent.
    #[arg(long)]
    threads: Option<u16>,
    /// Judges only every N-th batch, from the I-th on (from 0), into OUTPUT.progress-I. Once all shares are done, the
    /// command without it writes the output.
    #[arg(long, value_name = "I/N")]
    share: Option<Share>,
}

/// Judges everything that is asked for, or a share of it; goes on with an interrupted output.
///
/// # Errors
/// If the model, a setting or the listing cannot be used, nothing at all can be judged, or an output not be written. An
/// input that cannot be read, and an answer without a number, is a line in the failures.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { asked, share, .. } = &args;
    let device = device::parse(&args.device)?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(i32::from(threads.max(1)));
    }
    let (temperature, max_new_tokens) = (asked.temperature, asked.max_new_tokens);
    let sampling = Sampling { temperature, max_new_tokens, ..Sampling::default() };
    sampling.check().map_err(Failure::input)?;
    if asked.fps.is_some_and(|fps| !(fps.is_finite() && fps > 0.0)) {
        return Err(Failure::input(format!("--fps {:?}: expected frames a second, above 0", asked.fps)));
    }
    let mut work = Work::of(asked)?;
    if share.is_none() {
        work = work.with("device", json!(args.device)).with("threads", json!(args.threads));
    }
    let (mut journal, mut done) = Journal::open(&work, *share)?;
    let ours = |batch: &usize| share.is_none_or(|share| share.has(*batch)) && !done.has(*batch);
    let left: Vec<usize> = (0..work.batches()).filter(ours).collect();
    if !left.is_empty() {
        let loaded = Loaded::open(&asked.model, request::kind(asked.dtype), device)?;
        judge(asked, loaded, &sampling, &work, &left, &mut |batch, verdicts| {
            journal.add(batch, &verdicts)?;
            done.add(batch, verdicts);
            tracing::info!("judged {} of {}", done.items(), work.items.len());
            Ok(())
        })?;
    }
    match share {
        Some(_) => Ok(()),
        None => finish(asked, &work, &done),
    }
}

fn finish(asked: &Asked, work: &Work, done: &Done) -> Result<(), Failure> {
    let summary = judge::finish(asked, work, done)?;
    tracing::info!("{} scored, {} failed", summary.scored, summary.failed);
    Ok(())
}

/// Judges so many of the batches, one after the other; pictures of the next ones are prepared meanwhile.
fn judge(
    asked: &Asked,
    loaded: Loaded,
    sampling: &Sampling,
    work: &Work,
    batches: &[usize],
    done: &mut dyn FnMut(usize, Vec<Verdict>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let data = settings::Data {
        min_pixels: asked.min_pixels,
        max_pixels: asked.max_pixels,
        video: shown(asked),
        fps: asked.fps,
        max_frames: asked.max_frames,
        longest_side: asked.longest_side,
        frame_cache: asked.cache.clone(),
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
        inputs.prompt(&sample(item, asked))
    };
    let key = DrawKey { seed: asked.seed, ..DrawKey::default() };
    let items = batches.iter().flat_map(|&number| work.batch(number));
    ahead(ahead::threads(), items, prepare, |prepared| {
        for &number in batches {
            let batch = work.batch(number);
            let ready: Vec<Result<Ready, String>> = batch.iter().map_while(|_| prepared.next()).collect();
            let judged =
                batch.iter().zip(&ready).filter_map(|(item, ready)| Some((item, ready.as_ref().ok()?)));
            let requests: Vec<Request<'_>> = judged
                .map(|(item, ready)| Request {
                    id: &item.name,
                    prompt: &ready.prompt,
                    pictures: ready.pictures.iter().collect(),
                    responses: asked.responses,
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
                        Verdict::of(path, texts.map_err(Failure::other)?, media, asked.score)
                    }
                });
            }
            done(number, verdicts)?;
        }
        Ok(())
    })
}

fn shown(asked: &Asked) -> VideoInput {
    if asked.native_video { VideoInput::Native } else { VideoInput::Pictures }
}

/// An item as the wire has it: the question is asked as in evaluation.
fn sample(item: &Item, asked: &Asked) -> Sample {
    let about = data::Sample {
        id: item.name.clone(),
        dataset: String::new(),
        media: if item.video { Media::Video } else { Media::Image },
        images: Vec::new(),
        question: asked.question.clone().unwrap_or_default(),
        mos: 0.0,
        reference: String::new(),
        distortion: None,
    };
    Sample {
        id: item.name.clone(),
        images: item.files.iter().map(|file| file.display().to_string()).collect(),
        prompt: evaluation_prompt(&about, shown(asked)),
        augment_seed: None,
        video: item.video,
        add_vision_id: asked.add_vision_id,
    }
}
