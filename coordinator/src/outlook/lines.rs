//! The plan in words, a line a fact.

use data::Sample;
use settings::{DeviceKind, Hosts, Run, Stage};

use super::load::Load;
use super::memory::memory;
use super::wire::sent;
use super::{Facts, Parameters, World};
use crate::failure::Failure;

/// What every stage of a run takes; `train` gives a stage's training samples.
///
/// # Errors
/// If the model's shape is not known.
pub fn lines<'a>(
    run: &Run,
    hosts: &Hosts,
    train: impl Fn(usize) -> &'a [Sample],
) -> Result<Vec<String>, Failure> {
    let facts = Facts::of(run)?;
    let world = World::of(hosts);
    let device =
        if hosts.hosts.iter().any(|host| host.device == DeviceKind::Cuda) { "GPU" } else { "worker" };
    let shape = facts.stand_in.clone().unwrap_or_else(|| run.model.path.display().to_string());
    let mut lines = vec![format!(
        "model: {} parameters ({shape}); {} {device}s",
        grouped(facts.shape.parameters()),
        world.ranks
    )];
    for (i, stage) in run.stages.iter().enumerate() {
        lines.extend(of_stage(run, stage, &facts, train(i), world, device));
    }
    Ok(lines)
}

fn of_stage(
    run: &Run,
    stage: &Stage,
    facts: &Facts,
    train: &[Sample],
    world: World,
    device: &str,
) -> Vec<String> {
    let of = Parameters::of(&facts.shape, stage);
    let data = facts.stage(stage, train);
    let load = Load::of(stage, &data, world);
    let held = memory(run, stage, &facts.shape, of, &load, world);
    let sent = sent(run, stage, of, load.micro_batches, world);
    let name = &stage.name;
    let mark = match data.declared.as_slice() {
        [] => String::new(),
        names => format!(" (declared, not found: {})", names.join(", ")),
    };
    let parts = |held: &[(&str, f64)]| {
        let parts: Vec<String> = held.iter().map(|(what, bytes)| format!("{what} {}", gib(*bytes))).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(" + ") }
    };
    vec![
        format!(
            "stage {name}: tokens a step, at most: {} samples × ({} prompt, {} of them pictures, + {} × {} answer) = {}{mark}",
            load.samples,
            load.prompt,
            load.pictures.round(),
            load.responses,
            load.completion,
            grouped(load.tokens() as u64),
        ),
        format!(
            "stage {name}: {} parameters train, {} are frozen; {} samples a {device} in {} micro-batches",
            grouped(of.trained),
            grouped(of.frozen),
            load.share,
            load.micro_batches,
        ),
        format!(
            "stage {name}: memory a {device}, about: {} = {}, and the more of: update ({}), rollout ({})",
            gib(held.most()),
            parts(&held.kept),
            parts(&held.update),
            parts(&held.rollout),
        ),
        format!(
            "stage {name}: bytes a {device} sends a step: {} = update {} + weights for the rollout {}",
            gigabytes(sent.update + sent.rollout),
            gigabytes(sent.update),
            gigabytes(sent.rollout),
        ),
    ]
}

fn gib(bytes: f64) -> String {
    format!("{:.2} GiB", bytes / f64::from(1u32 << 30))
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.3} GB", bytes / 1e9)
}

/// 8,292,166,656
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 8_292_166_656].map(grouped), ["0", "999", "1,000", "8,292,166,656"]);
    }
}
