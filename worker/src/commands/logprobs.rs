//! `worker logprobs`: what a model thinks of given completions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{Packed, PackedSample, Params, VisionBatch, head, run as run_chain};
use safetensors::tensor::{Dtype as Element, TensorView};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad_guard};

use super::request::{self, Dtype, Loaded, Request};
use crate::failure::Failure;

/// Arguments of `worker logprobs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in Hugging Face layout.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines: {"id", "images": [path], "prompt", "completion"}.
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
    /// Compute threads; the machine's cores when absent.
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
    let device = request::device(&args.device)?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(i32::from(threads.max(1)));
    }
    let requests = request::read(&args.input)?;
    let mut loaded = Loaded::open(&args.model, args.dtype.kind(), device)?;
    let mut lines = Vec::with_capacity(requests.len());
    for (number, request) in requests.iter().enumerate() {
        let gradients = args.gradients.as_deref().filter(|_| number == 0);
        lines.push(score(&mut loaded, request, gradients)?);
    }
    request::write_lines(&args.output, &lines)
}

fn score(loaded: &mut Loaded, request: &Request, gradients: Option<&Path>) -> Result<Line, Failure> {
    let completion = request.completion.as_deref().ok_or_else(|| {
        Failure::input(format!("request {}: expected a \"completion\" to score", request.id))
    })?;
    let (prompt, pictures) = loaded.prepare(request)?;
    let completion_ids = loaded
        .processor
        .completion(completion)
        .map_err(|e| Failure::input(format!("request {}: {e}", request.id)))?;
    let context = loaded.qwen.config.text.max_positions as usize;
    let total = prompt.ids.len() + completion_ids.len();
    if total > context {
        return Err(Failure::input(format!(
            "request {}: prompt and completion have {total} tokens, the model's context is {context}",
            request.id
        )));
    }
    if gradients.is_some() {
        let leaf = |(name, tensor): (String, Tensor)| (name, tensor.set_requires_grad(true));
        loaded.params = std::mem::take(&mut loaded.params).into_iter().map(leaf).collect();
    }
    let guard = gradients.is_none().then(no_grad_guard);
    let sample = PackedSample { prompt: &prompt, completions: vec![&completion_ids] };
    let qwen = &loaded.qwen;
    let packed = Packed::new(&[sample], qwen.kind, qwen.device);
    let batch = VisionBatch { grids: prompt.grids.clone() };
    let images = qwen.encode(&loaded.params, &batch, &loaded.pixels(&pictures));
    let hidden = run_chain(&qwen.text_chain(&packed), &loaded.params, &images);
    let targets = packed.targets();
    let rows = hidden.index_select(0, &targets.rows);
    let weight = loaded.params.get(qwen.head_name());
    let logprobs = match gradients {
        None => head::logprobs(&rows, weight, &targets.ids, CHUNK),
        Some(_) => head::chunk_logprobs(&rows, weight, &targets.ids),
    };
    drop(guard);
    if let Some(path) = gradients {
        (-logprobs.mean(Kind::Float)).backward();
        write_gradients(&loaded.params, path)?;
        let bare = |(name, tensor): (String, Tensor)| (name, tensor.detach());
        loaded.params = std::mem::take(&mut loaded.params).into_iter().map(bare).collect();
    }
    let logprobs = Vec::<f32>::try_from(logprobs.to_device(tch::Device::Cpu)).map_err(Failure::other)?;
    Ok(Line { id: request.id.clone(), prompt_tokens: prompt.ids.len(), completion_ids, logprobs })
}

/// Writes the gradients that exist, f32, by published name.
fn write_gradients(params: &Params, path: &Path) -> Result<(), Failure> {
    let mut bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, tensor) in params {
        let grad = tensor.grad();
        if grad.defined() {
            let grad = grad.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
            let mut data = vec![0; grad.numel() * 4];
            grad.f_copy_data_u8(&mut data, grad.numel()).map_err(Failure::other)?;
            let shape = grad.size().iter().map(|&n| n as usize).collect();
            bytes.insert(name.clone(), (shape, data));
        }
    }
    let views = bytes
        .iter()
        .map(|(name, (shape, data))| {
            let view = TensorView::new(Element::F32, shape.clone(), data).map_err(Failure::other)?;
            Ok((name.clone(), view))
        })
        .collect::<Result<BTreeMap<_, _>, Failure>>()?;
    request::in_place(path, |partial| checkpoint::write_tensors(partial, views).map(drop))
}
