//! Responses to samples, and a vision head's judgement of them.

use model::{DrawKey, Limits, Processor, Request};
use proto::v1::{HeadPrediction, Response, Sample, SampleRollout, Sampling};

use crate::bench::{Bench, Stopped};
use crate::inputs::Ready;

/// What a vision stage's head says of each sample.
///
/// # Errors
/// If no stage has begun.
pub fn judge(bench: &mut Bench, samples: Vec<Sample>) -> Result<Vec<SampleRollout>, Stopped> {
    bench.progress.enter("evaluating");
    let progress = bench.progress.clone();
    let (inputs, trainer) = bench.tools()?;
    let judged = samples.into_iter().map(|sample| {
        progress.advance();
        let head = inputs.vision(&sample, trainer.model()).map(|(picture, pixels)| {
            let prediction = trainer.predict(&picture, &pixels).into_iter().next();
            prediction.map(|p| HeadPrediction { quality: p.quality, kind: p.kind, level: p.level })
        });
        let (head, error) = match head {
            Ok(Some(head)) => (Some(head), String::new()),
            Ok(None) => (None, "the sample has no picture to judge".into()),
            Err(reason) => (None, reason),
        };
        SampleRollout { sample_id: sample.id, responses: Vec::new(), error, head }
    });
    Ok(judged.collect())
}

/// K responses to each sample; what a sample that cannot be read lacks is said in its place.
///
/// # Errors
/// If no stage has begun, or the sampling parameters cannot be.
pub fn draw(
    bench: &mut Bench,
    samples: Vec<Sample>,
    sampling: &Sampling,
    step: u64,
    attempt: u32,
) -> Result<Vec<SampleRollout>, Stopped> {
    let key = DrawKey { seed: sampling.seed, stage: sampling.stage, step, attempt };
    let responses = sampling.responses;
    let sampling = parameters(sampling)?;
    bench.progress.enter("reading");
    let progress = bench.progress.clone();
    let (inputs, trainer) = bench.tools()?;
    let read = samples.into_iter().map(|sample| {
        progress.advance();
        let ready = inputs.prompt(&sample);
        (sample.id, ready)
    });
    let read: Vec<(String, Result<Ready, String>)> = read.collect();

    progress.enter("rolling out");
    let requests: Vec<Request<'_>> = read
        .iter()
        .filter_map(|(id, ready)| {
            let ready = ready.as_ref().ok()?;
            Some(Request { id, prompt: &ready.prompt, pictures: ready.pictures.iter().collect(), responses })
        })
        .collect();
    let processor = inputs.processor();
    let (model, params, limits) = (trainer.model(), trainer.params(), Limits::default());
    let mut rollout =
        model::Rollout::new(model, params, &requests, &sampling, &processor.special, key, limits);
    while rollout.step() {
        progress.advance();
    }
    let mut drawn = rollout.finish().into_iter();
    let reports = read.iter().map(|(id, ready)| {
        let (responses, error) = match ready {
            Ok(_) => (answers(processor, drawn.next().unwrap_or_default())?, String::new()),
            Err(reason) => (Vec::new(), reason.clone()),
        };
        Ok(SampleRollout { sample_id: id.clone(), responses, error, head: None })
    });
    reports.collect()
}

fn answers(processor: &Processor, drawn: Vec<model::Response>) -> Result<Vec<Response>, Stopped> {
    let decoded = drawn.into_iter().zip(0..).map(|(response, index)| {
        let text = processor.decode(&response.ids).map_err(|e| Stopped::work(e.to_string()))?;
        Ok(Response { index, text, completion_ids: response.ids, logprobs: response.logprobs })
    });
    decoded.collect()
}

fn parameters(sampling: &Sampling) -> Result<model::Sampling, Stopped> {
    let parameters = model::Sampling {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        max_new_tokens: sampling.max_new_tokens as usize,
        ..model::Sampling::default()
    };
    parameters.check().map_err(|e| Stopped::work(e.to_string()))?;
    Ok(parameters)
}
