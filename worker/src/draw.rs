//! Responses to samples, and a vision head's judgement of them.

use model::{DrawKey, Limits, Processor, Request};
use proto::v1::{HeadPrediction, Response, Sample, SampleRollout, Sampling};
use vision::Patches;

use crate::ahead::{self, ahead};
use crate::bench::{Bench, Stopped};
use crate::inputs::{Inputs, Ready, tower_input};
use crate::progress::Progress;

/// Bytes of patches that are drawn from together; the next samples' pictures are prepared meanwhile.
const WAVE: usize = 1 << 30;

/// A sample's id, and what the model takes or why it cannot be read.
type Read = (String, Result<Ready, String>);

/// What a vision stage's head says of each sample.
///
/// # Errors
/// If no stage has begun.
pub fn judge(bench: &mut Bench, samples: Vec<Sample>) -> Result<Vec<SampleRollout>, Stopped> {
    bench.progress.enter("evaluating");
    let progress = bench.progress.clone();
    let (inputs, trainer) = bench.tools()?;
    let pictures = |sample: Sample| (inputs.pictures(&sample), sample.id);
    let judged = |(pictures, sample_id): (Result<Vec<Patches>, String>, String)| {
        progress.advance();
        let head = pictures.map(|pictures| {
            let (picture, pixels) = tower_input(&pictures, trainer.model());
            let prediction = trainer.predict(&picture, &pixels).into_iter().next();
            prediction.map(|p| HeadPrediction { quality: p.quality, kind: p.kind, level: p.level })
        });
        let (head, error) = match head {
            Ok(Some(head)) => (Some(head), String::new()),
            Ok(None) => (None, "the sample has no picture to judge".into()),
            Err(reason) => (None, reason),
        };
        SampleRollout { sample_id, responses: Vec::new(), error, head }
    };
    Ok(ahead(ahead::threads(), samples.into_iter(), pictures, |pictures| pictures.map(judged).collect()))
}

/// K responses to each sample; what a sample that cannot be read lacks is said in its place. `drawing` is called with
/// each token that all have got.
///
/// # Errors
/// If no stage has begun, or the sampling parameters cannot be.
pub fn draw(
    bench: &mut Bench,
    samples: Vec<Sample>,
    sampling: &Sampling,
    step: u64,
    attempt: u32,
    drawing: impl Fn(),
) -> Result<Vec<SampleRollout>, Stopped> {
    let key = DrawKey { seed: sampling.seed, stage: sampling.stage, step, attempt };
    let responses = sampling.responses;
    let sampling = parameters(sampling)?;
    let progress = bench.progress.clone();
    let halted = bench.halted();
    let (inputs, trainer) = bench.tools()?;
    let inputs: &Inputs = inputs;
    let read = |sample: Sample| {
        let ready = inputs.prompt(&sample);
        (sample.id, ready)
    };
    ahead(ahead::threads(), samples.into_iter(), read, |read| {
        let mut reports = Vec::new();
        loop {
            progress.enter("reading");
            let wave = wave(read, WAVE, &progress);
            if wave.is_empty() {
                return Ok(reports);
            }
            progress.enter("rolling out");
            let requests = requests(&wave, responses);
            let (model, params, limits) = (trainer.model(), trainer.params(), Limits::default());
            let processor = inputs.processor();
            let mut rollout =
                model::Rollout::new(model, params, &requests, &sampling, &processor.special, key, limits);
            while rollout.step() {
                progress.advance();
                drawing();
                if halted() {
                    return Err(Stopped::Collective(
                        "the epoch was aborted while responses were drawn".into(),
                    ));
                }
            }
            let mut drawn = rollout.finish().into_iter();
            for (sample_id, ready) in wave {
                let (responses, error) = match ready {
                    Ok(_) => (answers(processor, drawn.next().unwrap_or_default())?, String::new()),
                    Err(reason) => (Vec::new(), reason),
                };
                reports.push(SampleRollout { sample_id, responses, error, head: None });
            }
        }
    })
}

/// The next samples, until their patches have `bytes` or more.
fn wave(read: &mut dyn Iterator<Item = Read>, bytes: usize, progress: &Progress) -> Vec<Read> {
    let mut wave = Vec::new();
    let mut held = 0;
    while held < bytes
        && let Some((id, ready)) = read.next()
    {
        progress.advance();
        let pictures = ready.as_ref().map_or(&[][..], |ready| &ready.pictures);
        held += pictures.iter().map(|p| size_of_val(p.values.as_slice())).sum::<usize>();
        wave.push((id, ready));
    }
    wave
}

/// What is asked of the model: nothing of samples that cannot be read.
fn requests<'a>(wave: &'a [Read], responses: u32) -> Vec<Request<'a>> {
    let readable = wave.iter().filter_map(|(id, ready)| Some((id, ready.as_ref().ok()?)));
    let request = |(id, ready): (&'a String, &'a Ready)| Request {
        id,
        prompt: &ready.prompt,
        pictures: ready.pictures.iter().collect(),
        responses,
    };
    readable.map(request).collect()
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

#[cfg(test)]
mod tests {
    use model::Prompt;
    use vision::{Grid, Patches};

    use super::{Read, wave};
    use crate::inputs::Ready;
    use crate::progress::Progress;

    #[test]
    fn a_wave_ends_with_the_sample_that_fills_it() {
        let prompt =
            Prompt { ids: vec![1], grids: vec![], slots: vec![], positions: vec![[0; 3]], next_position: 1 };
        let sample = |values: usize| -> Read {
            let picture = Patches { values: vec![0.0; values], grid: Grid { t: 1, h: 1, w: 1 } };
            (values.to_string(), Ok(Ready { prompt: prompt.clone(), pictures: vec![picture] }))
        };
        let samples =
            [sample(4), ("gone".to_owned(), Err("no file".to_owned())), sample(1), sample(6), sample(2)];
        let mut read = samples.into_iter();
        let mut next = || -> Vec<String> {
            wave(&mut read, 20, &Progress::default()).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!([next(), next(), next()], [vec!["4", "gone", "1"], vec!["6"], vec!["2"]]);
        assert!(next().is_empty());
    }
}
