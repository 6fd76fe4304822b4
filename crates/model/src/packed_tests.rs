use super::*;
use crate::config::Config;
use crate::head;
use crate::params::Params;
use crate::qwen::{Qwen, run};
use crate::testing::{random_params, tiny_config};
use crate::tower::VisionBatch;
use ::vision::Grid;

const CPU: Device = Device::Cpu;

fn prompt(config: &Config, grids: &[Grid], text: &[u32]) -> Prompt {
    let mut ids = vec![5];
    for grid in grids {
        ids.extend(vec![config.image_token; grid.tokens(2)]);
        ids.push(6);
    }
    ids.extend(text);
    let media: Vec<_> = grids.iter().map(|&grid| grid.into()).collect();
    Prompt::new(ids, &media, config).expect("a good prompt")
}

fn pixels(grids: &[Grid], config: &Config, seed: i64) -> Tensor {
    tch::manual_seed(seed);
    let patches: usize = grids.iter().map(|g| g.patches()).sum();
    Tensor::randn([patches as i64, config.vision.patch_values()], (Kind::Float, CPU))
}

/// Log-probabilities of all completion tokens, differentiable.
fn logprobs(qwen: &Qwen, params: &Params, samples: &[PackedSample<'_>], pixels: &Tensor) -> Tensor {
    let grids: Vec<Grid> = samples.iter().flat_map(|s| s.prompt.grids.clone()).collect();
    let packed = Packed::new(samples, Kind::Float, CPU);
    let images = qwen.encode(params, &VisionBatch { grids }, pixels);
    let hidden = run(&qwen.text_chain(&packed), params, &images);
    let targets = packed.targets();
    let rows = hidden.index_select(0, &targets.rows);
    head::chunk_logprobs(&rows, params.get(qwen.head_name()), &targets.ids)
}

fn leaves(params: Params) -> Params {
    params.into_iter().map(|(name, tensor)| (name, tensor.set_requires_grad(true))).collect()
}

fn gap(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).double_value(&[])
}

#[test]
fn sharing_the_prompt_gives_the_values_and_gradients_of_separate_copies() {
    let config = tiny_config();
    let qwen = Qwen::new(config.clone(), Kind::Float, CPU);
    let (one, two) = (Grid { t: 1, h: 4, w: 6 }, Grid { t: 1, h: 10, w: 6 });
    let grids = [vec![one], vec![two, one], vec![], vec![one]];
    let prompts: Vec<Prompt> = grids.iter().map(|g| prompt(&config, g, &[7, 8, 9])).collect();
    let completions: [Vec<Vec<u32>>; 4] = [
        vec![vec![1, 2, 3], vec![4], vec![2, 2]],
        vec![vec![1], vec![9, 8, 7, 6, 5]],
        vec![vec![3, 3]],
        vec![vec![8, 1], vec![1, 8, 2, 4], vec![3]],
    ];
    let all = pixels(&grids.concat(), &config, 1);
    let together: Vec<PackedSample<'_>> = prompts
        .iter()
        .zip(&completions)
        .map(|(prompt, c)| PackedSample { prompt, completions: c.iter().map(Vec::as_slice).collect() })
        .collect();
    let shared = leaves(random_params(&config, 3, Kind::Float));
    let packed = logprobs(&qwen, &shared, &together, &all);
    packed.sum(Kind::Float).backward();

    let copies = leaves(random_params(&config, 3, Kind::Float));
    let counts: Vec<i64> = grids.iter().map(|g| g.iter().map(|g| g.patches() as i64).sum()).collect();
    let mut apart = Vec::new();
    for ((prompt, completions), pixels) in
        prompts.iter().zip(&completions).zip(all.split_with_sizes(&counts, 0))
    {
        for completion in completions {
            let sample = PackedSample { prompt, completions: vec![completion] };
            apart.push(logprobs(&qwen, &copies, &[sample], &pixels));
        }
    }
    let apart = Tensor::cat(&apart, 0);
    apart.sum(Kind::Float).backward();

    assert!(gap(&packed, &apart) < 1e-5, "values differ by {}", gap(&packed, &apart));
    for (name, tensor) in &copies {
        let difference = gap(&shared.get(name).grad(), &tensor.grad());
        assert!(difference < 2e-5, "the gradient of {name} differs by {difference}");
    }
}

#[test]
fn a_placeholders_row_takes_no_gradient_from_image_positions() {
    let mut config = tiny_config();
    config.tied = false;
    let qwen = Qwen::new(config.clone(), Kind::Float, CPU);
    let grid = Grid { t: 1, h: 4, w: 4 };
    let prompt = prompt(&config, &[grid], &[7]);
    let params = leaves(random_params(&config, 3, Kind::Float));
    let sample = PackedSample { prompt: &prompt, completions: vec![&[1, 2]] };
    logprobs(&qwen, &params, &[sample], &pixels(&[grid], &config, 1)).sum(Kind::Float).backward();
    let row = params.get(crate::names::EMBEDDING).grad().get(i64::from(config.image_token));
    assert_eq!(row.abs().max().double_value(&[]), 0.0);
    let merger = params.get("visual.merger.mlp.2.weight").grad();
    assert!(merger.abs().max().double_value(&[]) > 0.0);
}

#[test]
fn a_completions_first_token_is_predicted_by_the_prompts_last_row() {
    let config = tiny_config();
    let prompt = prompt(&config, &[], &[7, 8]);
    let sample = PackedSample { prompt: &prompt, completions: vec![&[1, 2], &[3]] };
    let packed = Packed::new(&[sample.clone(), sample], Kind::Float, CPU);
    let targets = packed.targets();
    let list = |t: &Tensor| Vec::<i64>::try_from(t).expect("i64");
    assert_eq!(list(&targets.rows), [2, 3, 2, 8, 9, 8]);
    assert_eq!(list(&targets.ids), [1, 2, 3, 1, 2, 3]);
    assert_eq!(targets.completion, [0, 0, 1, 2, 2, 3]);
    assert_eq!(list(&packed.prompt_ends()), [2, 8]);
    assert_eq!((packed.tokens(), packed.completion_tokens()), (12, 6));
}

#[test]
fn completions_begin_at_the_position_after_the_prompts_largest() {
    let config = tiny_config();
    let prompt = prompt(&config, &[Grid { t: 1, h: 4, w: 8 }], &[7]);
    let sample = PackedSample { prompt: &prompt, completions: vec![&[1, 2], &[3]] };
    let packed = Packed::new(&[sample], Kind::Float, CPU);
    let time = Vec::<i64>::try_from(packed.positions.get(0)).expect("i64");
    // 5 at 0, the picture from 1 to 4, 6 and 7 at 5 and 6.
    assert_eq!(time[time.len() - 5..], [5, 6, 7, 8, 7]);
}
