//! `worker generate`: responses to requests.

use std::path::PathBuf;
use std::time::Instant;

use model::{DrawKey, Limits, Qwen, Response, Rollout, Sampling};
use serde::Serialize;

use super::request::{self, Dtype, Loaded, Request};
use crate::ahead::{self, ahead};
use crate::device;
use crate::failure::Failure;
use crate::heap;
use crate::inputs::Ready;

/// Arguments of `worker generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in Hugging Face layout.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines: {"id", "images": [path], "prompt"}, or {"id", "content"}: a list of {"type": "text", "text"},
    /// {"type": "image", "image": path} and {"type": "video", "video": [frame paths], "fps": 2.0}, or a
    /// video file of which so many frames a second are taken. With "add_vision_id": true pictures and videos are numbered
    /// ("Picture 1: ").
    #[arg(long)]
    input: PathBuf,
    /// JSON lines: {"id", "completions": [{"text", "ids", "logprobs"}]}; log-probabilities are of the full softmax
    /// at temperature 1.
    #[arg(long)]
    output: PathBuf,
    /// Compute type.
    #[arg(long, value_enum, default_value = "float32")]
    dtype: Dtype,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads that compute, and that prepare pictures; the machine's cores when absent.
    #[arg(long)]
    threads: Option<u16>,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Tokens kept by rank; 0 keeps all.
    #[arg(long, default_value_t = 50)]
    top_k: u32,
    /// Probability mass kept.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Drops tokens less likely than this share of the most likely one.
    #[arg(long, default_value_t = 0.0)]
    min_p: f64,
    /// Pushes down tokens already there, prompt included; 1 is none.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Responses a request.
    #[arg(long, default_value_t = 1)]
    responses: u32,
    /// Length bound of a response, tokens.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// End tokens wait for so many tokens.
    #[arg(long, default_value_t = 0)]
    min_new_tokens: usize,
    /// Names the draws, with the request's id and the response's number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Writes how long it took, from reading the first picture to the last token, as JSON: {"tokens", "rows" (decoded),
    /// "seconds", "first_token_seconds", "peak_bytes" (resident)}.
    #[arg(long)]
    measure: Option<PathBuf>,
}

#[derive(Serialize)]
struct Measure {
    tokens: usize,
    rows: usize,
    seconds: f64,
    first_token_seconds: f64,
    peak_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    completions: Vec<Completion>,
}

#[derive(Serialize)]
struct Completion {
    text: String,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Generates responses to every request.
///
/// # Errors
/// If the model, a setting, a request or a picture cannot be used, or the output not be written.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        max_new_tokens: args.max_new_tokens,
        min_new_tokens: args.min_new_tokens,
    };
    sampling.check().map_err(Failure::input)?;
    let device = device::parse(&args.device)?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(i32::from(threads.max(1)));
    }
    let requests = request::read(&args.input)?;
    let mut loaded = Loaded::open(&args.model, request::kind(args.dtype), device)?;
    loaded.qwen = Qwen::fastest(loaded.qwen.config, request::kind(args.dtype), device);
    let start = Instant::now();
    let processor = &loaded.processor;
    let prepare = |request: &Request| request.prepare(processor);
    let prepared: Vec<Ready> =
        ahead(ahead::threads(), requests.iter(), prepare, |ready| ready.collect::<Result<_, _>>())?;
    let rollouts: Vec<model::Request<'_>> = requests
        .iter()
        .zip(&prepared)
        .map(|(request, ready)| model::Request {
            id: &request.id,
            prompt: &ready.prompt,
            pictures: ready.pictures.iter().collect(),
            responses: args.responses,
        })
        .collect();
    let key = DrawKey { seed: args.seed, ..DrawKey::default() };
    let special = &loaded.processor.special;
    let mut rollout =
        Rollout::new(&loaded.qwen, &loaded.params, &rollouts, &sampling, special, key, Limits::default());
    let mut more = rollout.step();
    let first_token_seconds = start.elapsed().as_secs_f64();
    while more {
        more = rollout.step();
    }
    if let Some(path) = &args.measure {
        let (tokens, rows) = (rollout.tokens(), rollout.rows_decoded());
        let seconds = start.elapsed().as_secs_f64();
        let measure = Measure { tokens, rows, seconds, first_token_seconds, peak_bytes: heap::peak_bytes() };
        request::write_lines(path, &[measure])?;
    }
    let lines = requests
        .iter()
        .zip(rollout.finish())
        .map(|(request, responses)| {
            let completions =
                responses.into_iter().map(|r| completion(&loaded, r)).collect::<Result<_, _>>()?;
            Ok(Line { id: &request.id, completions })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    request::write_lines(&args.output, &lines)
}

fn completion(loaded: &Loaded, response: Response) -> Result<Completion, Failure> {
    let text = loaded.processor.decode(&response.ids).map_err(Failure::other)?;
    Ok(Completion { text, ids: response.ids, logprobs: response.logprobs })
}
