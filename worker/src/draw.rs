//! Responses to samples, and a vision head's judgement of them.

use proto::v1::{HeadPrediction, Sample, SampleRollout, Sampling};

use crate::bench::{Bench, Stopped};

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

/// K responses to each sample.
///
/// # Errors
/// If no stage has begun.
pub fn draw(
    _bench: &mut Bench,
    _samples: Vec<Sample>,
    _sampling: &Sampling,
    _step: u64,
    _attempt: u32,
) -> Result<Vec<SampleRollout>, Stopped> {
    Err(Stopped::work("generation is being written"))
}
