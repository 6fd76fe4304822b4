//! `worker logprobs`: what a model thinks of given completions.

use std::path::{Path, PathBuf};

use model::{Packed, PackedSample, Params, Processor, Qwen, VisionBatch, head, run as run_chain};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad_guard};

use super::request::{self, Dtype, Loaded, Request};
use crate::ahead::{self, ahead};
use crate::device;
use crate::failure::Failure;
use crate::inputs::Ready;

/// Arguments of `worker logprobs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in Hugging Face layout.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines: {"id", "images": [path], "prompt", "completion"}, or with "content" in place of images and prompt:
    /// a list of {"type": "text", "text"}, {"type": "image", "image": path} and {"type": "video", "video": [frame
    /// paths], "fps": 2.0}, or a video file of which so many frames a second are taken. With "add_vision_id": true pictures
    /// and videos are numbered ("Picture 1: ").
    #[arg(long)]
    input: PathBuf,
    /// JSON lines: {"id", "prompt_tokens", "completion_ids", "logprobs"}.
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
    /// Also writes d(mean of −log-probability of the first request's completion) / d(weight), f32.
    #[arg(long)]
    gradients: Option<PathBuf>,
}

/// Rows whose logits are held at once.
const CHUNK: i64 = 256;

#[derive(Serialize)]
struct Line {
    id: String,
    prompt_tokens: usize,
    completion_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Scores every request's completion.
///
/// # Errors
/// If the model, a request or a picture cannot be used, or an output not be written.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let device = device::parse(&args.device)?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(i32::from(threads.max(1)));
    }
    let requests = request::read(&args.input)?;
    let Loaded { qwen, mut params, processor } =
        Loaded::open(&args.model, request::kind(args.dtype), device)?;
    let prepare = |request: &Request| prepare(request, &processor);
    let lines = ahead(ahead::threads(), requests.iter(), prepare, |ready| {
        let scored = ready.enumerate().map(|(number, ready)| {
            let gradients = args.gradients.as_deref().filter(|_| number == 0);
            score(&qwen, &mut params, &requests[number], ready?, gradients)
        });
        scored.collect::<Result<Vec<_>, Failure>>()
    })?;
    request::write_lines(&args.output, &lines)
}

/// The request's turn, and the tokens to score.
fn prepare(request: &Request, processor: &Processor) -> Result<(Ready, Vec<u32>), Failure> {
    let completion =
        request.completion.as_deref().ok_or_else(|| request.wrong("expected a \"completion\" to score"))?;
    let ids = processor.completion(completion).map_err(|e| request.wrong(e))?;
    Ok((request.prepare(processor)?, ids))
}

fn score(
    qwen: &Qwen,
    params: &mut Params,
    request: &Request,
    (ready, completion_ids): (Ready, Vec<u32>),
    gradients: Option<&Path>,
) -> Result<Line, Failure> {
    let Ready { prompt, pictures } = ready;
    let context = qwen.config.text.max_positions as usize;
    let total = prompt.ids.len() + completion_ids.len();
    if total > context {
        return Err(request
            .wrong(format!("prompt and completion have {total} tokens, the model's context is {context}")));
    }
    if gradients.is_some() {
        let leaf = |(name, tensor): (String, Tensor)| (name, tensor.set_requires_grad(true));
        *params = std::mem::take(params).into_iter().map(leaf).collect();
    }
    let guard = gradients.is_none().then(no_grad_guard);
    let sample = PackedSample { prompt: &prompt, completions: vec![&completion_ids] };
    let packed = Packed::new(&[sample], qwen.kind, qwen.device);
    let batch = VisionBatch { grids: prompt.grids.clone() };
    let images = qwen.encode(params, &batch, &request::pixels(&pictures, qwen));
    let hidden = run_chain(&qwen.text_chain(&packed), params, &images);
    let targets = packed.targets();
    let rows = hidden.index_select(0, &targets.rows);
    let weight = params.get(qwen.head_name());
    let logprobs = match gradients {
        None => head::logprobs(&rows, weight, &targets.ids, CHUNK),
        Some(_) => head::chunk_logprobs(&rows, weight, &targets.ids),
    };
    drop(guard);
    if let Some(path) = gradients {
        (-logprobs.mean(Kind::Float)).backward();
        let gradients = params.iter().map(|(name, tensor)| (name.clone(), tensor.grad()));
        request::write_gradients(path, gradients.filter(|(_, gradient)| gradient.defined()))?;
        let bare = |(name, tensor): (String, Tensor)| (name, tensor.detach());
        *params = std::mem::take(params).into_iter().map(bare).collect();
    }
    let logprobs = Vec::<f32>::try_from(logprobs.to_device(tch::Device::Cpu)).map_err(Failure::other)?;
    Ok(Line { id: request.id.clone(), prompt_tokens: prompt.ids.len(), completion_ids, logprobs })
}
