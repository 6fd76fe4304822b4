use super::*;
use crate::packed::{Packed, PackedSample};
use crate::qwen;
use crate::testing::{random_params, tiny_config};
use crate::tower::{VisionBatch, pixel_values};
use ::vision::Grid;
use tch::Device;

const CPU: Device = Device::Cpu;

struct World {
    qwen: Qwen,
    params: Params,
    prompts: Vec<Prompt>,
    pictures: Vec<Vec<Patches>>,
    /// Decode by tensor operations, as on a GPU.
    by_tensors: bool,
}

fn special() -> SpecialTokens {
    SpecialTokens { end: vec![3, 4], pad: None, banned: vec![90, 91] }
}

/// Both ways of decoding.
fn worlds() -> [World; 2] {
    [false, true].map(|by_tensors| World { by_tensors, ..world(Kind::Float) })
}

/// Five prompts of different lengths and numbers of pictures.
fn world(kind: Kind) -> World {
    let config = tiny_config();
    let grids = [(1, 4, 4), (1, 4, 6), (1, 10, 6), (1, 4, 4), (1, 2, 2)].map(|(t, h, w)| Grid { t, h, w });
    let mut prompts = Vec::new();
    let mut pictures = Vec::new();
    for (number, grid) in grids.into_iter().enumerate() {
        let with_picture = number != 3;
        let mut ids = vec![5, 6 + number as u32];
        ids.extend(vec![config.image_token; if with_picture { grid.tokens(2) } else { 0 }]);
        ids.extend([7, 8]);
        let media = if with_picture { vec![grid.into()] } else { vec![] };
        prompts.push(Prompt::new(ids, &media, &config).expect("a good prompt"));
        let values = (grid.patches() as i64 * config.vision.patch_values()) as usize;
        let wave = |i: usize| ((i * (number + 3)) as f32 * 0.37).sin();
        let picture = Patches { values: (0..values).map(wave).collect(), grid };
        pictures.push(if with_picture { vec![picture] } else { vec![] });
    }
    let params = random_params(&config, 7, kind);
    World { qwen: Qwen::new(config, kind, CPU), params, prompts, pictures, by_tensors: false }
}

impl World {
    fn requests(&self, responses: u32) -> Vec<Request<'_>> {
        const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
        let make = |i: usize| Request {
            id: IDS[i],
            prompt: &self.prompts[i],
            pictures: self.pictures[i].iter().collect(),
            responses,
        };
        (0..self.prompts.len()).map(make).collect()
    }

    fn roll(&self, requests: &[Request<'_>], sampling: &Sampling, limits: Limits) -> Vec<Vec<Response>> {
        let key = DrawKey { seed: 11, ..DrawKey::default() };
        let (qwen, params) = (&self.qwen, &self.params);
        let mut rollout = if self.by_tensors {
            let decoder = Decoder::of_tensors(qwen, params, farthest(requests, sampling));
            Rollout::by(decoder, requests, sampling, &special(), key, limits)
        } else {
            Rollout::new(qwen, params, requests, sampling, &special(), key, limits)
        };
        while rollout.step() {}
        rollout.finish()
    }

    /// Log-softmax `[tokens, vocabulary]` that decides each token of a response, by the full forward pass.
    fn distributions(&self, request: &Request<'_>, ids: &[u32]) -> (Tensor, Tensor) {
        let sample = PackedSample { prompt: request.prompt, completions: vec![ids] };
        let packed = Packed::new(&[sample], self.qwen.kind, CPU);
        let pixels =
            pixel_values(&request.pictures, self.qwen.config.vision.patch_values(), self.qwen.kind, CPU);
        let images =
            self.qwen.encode(&self.params, &VisionBatch { grids: request.prompt.grids.clone() }, &pixels);
        let hidden = qwen::run(&self.qwen.text_chain(&packed), &self.params, &images);
        let targets = packed.targets();
        let weight = self.params.get(self.qwen.head_name());
        let logits = crate::ops::project(&hidden.index_select(0, &targets.rows), weight);
        (logits.log_softmax(-1, Kind::Float), targets.ids)
    }

    /// Log-probabilities of a response by the full forward pass.
    fn score(&self, request: &Request<'_>, ids: &[u32]) -> Vec<f32> {
        let (all, ids) = self.distributions(request, ids);
        Vec::<f32>::try_from(all.gather(1, &ids.unsqueeze(1), false).squeeze_dim(1)).expect("f32")
    }
}

fn sampling() -> Sampling {
    Sampling { max_new_tokens: 12, top_k: 20, ..Sampling::default() }
}

#[test]
fn logprobs_are_those_of_the_full_forward_pass() {
    for world in worlds() {
        let requests = world.requests(6);
        let rolled = world.roll(&requests, &Sampling { temperature: 1.3, ..sampling() }, Limits::default());
        let lengths: Vec<usize> = rolled.iter().flatten().map(|r| r.ids.len()).collect();
        assert!(
            lengths.iter().any(|&n| n < 12) && lengths.contains(&12),
            "some end early, some do not: {lengths:?}"
        );
        for (request, responses) in requests.iter().zip(&rolled) {
            for response in responses {
                let scored = world.score(request, &response.ids);
                for (a, b) in response.logprobs.iter().zip(&scored) {
                    assert!((a - b).abs() < 1e-4, "{} says {a}, scoring says {b}", request.id);
                }
            }
        }
    }
}

#[test]
fn what_is_batched_together_changes_no_draw() {
    for world in worlds() {
        let requests = world.requests(4);
        let together = world.roll(&requests, &sampling(), Limits::default());
        let crowded = world.roll(&requests, &sampling(), Limits { rows: 5, prefill_tokens: 16 });
        let mut backwards = requests.clone();
        backwards.reverse();
        let mut reversed = world.roll(&backwards, &sampling(), Limits { rows: 9, prefill_tokens: 64 });
        reversed.reverse();
        let fewer = world.roll(&world.requests(2), &sampling(), Limits::default());
        let ids = |rolled: &[Vec<Response>], take: usize| -> Vec<Vec<u32>> {
            rolled.iter().flat_map(|r| r[..take].iter().map(|r| r.ids.clone())).collect()
        };
        assert_eq!(ids(&together, 4), ids(&crowded, 4));
        assert_eq!(ids(&together, 4), ids(&reversed, 4));
        assert_eq!(ids(&together, 2), ids(&fewer, 2));
    }
}

#[test]
fn the_same_rollout_twice_has_the_same_bits() {
    for world in worlds() {
        let requests = world.requests(4);
        assert_eq!(
            world.roll(&requests, &sampling(), Limits::default()),
            world.roll(&requests, &sampling(), Limits::default())
        );
    }
}

#[test]
fn responses_end_at_an_end_token_and_never_hold_a_placeholder() {
    for world in worlds() {
        let rolled = world.roll(
            &world.requests(8),
            &Sampling { top_k: 0, temperature: 2.0, ..sampling() },
            Limits::default(),
        );
        for response in rolled.iter().flatten() {
            let (last, before) = response.ids.split_last().expect("never empty");
            assert!(before.iter().all(|id| !special().end.contains(id)));
            assert!(response.ids.len() == 12 || special().end.contains(last));
            assert!(response.ids.iter().all(|id| !special().banned.contains(id)));
        }
    }
}

#[test]
fn a_minimum_length_holds_back_the_end() {
    for world in worlds() {
        let rolled =
            world.roll(&world.requests(8), &Sampling { min_new_tokens: 12, ..sampling() }, Limits::default());
        assert!(rolled.iter().flatten().all(|r| r.ids.len() == 12));
    }
}

#[test]
fn greedy_responses_are_the_most_likely_tokens_one_by_one() {
    for world in worlds() {
        let requests = world.requests(1);
        let greedy = Sampling { temperature: 0.0, max_new_tokens: 6, ..sampling() };
        for (request, responses) in requests.iter().zip(world.roll(&requests, &greedy, Limits::default())) {
            let ids = &responses[0].ids;
            let (all, _) = world.distributions(request, ids);
            let allowed = all.narrow(1, 0, 90).amax([1_i64].as_slice(), false);
            let best = Vec::<f32>::try_from(allowed).expect("f32");
            for (chosen, best) in world.score(request, ids).into_iter().zip(best) {
                assert!(chosen > best - 1e-4, "{}: {chosen} where {best} was to be had", request.id);
            }
        }
    }
}

#[test]
fn a_rollout_of_nothing_is_done_at_once() {
    for world in worlds() {
        assert!(world.roll(&[], &sampling(), Limits::default()).is_empty());
        assert_eq!(world.roll(&world.requests(0), &sampling(), Limits::default()), vec![Vec::new(); 5]);
    }
}

#[test]
fn bf16_decoding_agrees_with_bf16_scoring() {
    let world = world(Kind::BFloat16);
    let requests = world.requests(4);
    let rolled = world.roll(&requests, &sampling(), Limits::default());
    let mut apart = Vec::new();
    for (request, responses) in requests.iter().zip(&rolled) {
        for response in responses {
            let scored = world.score(request, &response.ids);
            apart.extend(response.logprobs.iter().zip(scored).map(|(a, b)| (a - b).abs()));
        }
    }
    let mean = apart.iter().sum::<f32>() / apart.len() as f32;
    assert!(mean < 0.03, "{mean} apart on average");
}

/// Where two rollouts of the same draws part, the draw lay on the border between two tokens: moved by no more than
/// rounding moves probabilities, it gives the one or the other.
#[test]
fn texts_part_only_where_rounding_decides() {
    let world = world(Kind::BFloat16);
    let plain = Sampling { top_k: 0, max_new_tokens: 64, min_new_tokens: 64, ..Sampling::default() };
    let requests = world.requests(12);
    let together = world.roll(&requests, &plain, Limits::default());
    let crowded = world.roll(&requests, &plain, Limits { rows: 7, prefill_tokens: 16 });
    world.parted(&requests, &together, &crowded);
    // The other way of decoding rounds elsewhere.
    let other = World { by_tensors: true, ..world };
    let requests = other.requests(12);
    let parted = other.parted(&requests, &together, &other.roll(&requests, &plain, Limits::default()));
    assert!(parted > 0, "two ways of rounding, and no text differs");
}

impl World {
    /// Counts the responses that differ, each checked to do so by rounding.
    fn parted(&self, requests: &[Request<'_>], a: &[Vec<Response>], b: &[Vec<Response>]) -> usize {
        const ROUNDING: f64 = 0.05;
        let key = DrawKey { seed: 11, ..DrawKey::default() };
        let mut parted = 0;
        for (request, (a, b)) in requests.iter().zip(a.iter().zip(b)) {
            for (response, (a, b)) in (0..).zip(a.iter().zip(b)) {
                let Some(place) = a.ids.iter().zip(&b.ids).position(|(a, b)| a != b) else { continue };
                parted += 1;
                let (all, _) = self.distributions(request, &a.ids[..=place]);
                let mass = all.get(place as i64).exp().to_kind(Kind::Double);
                let mut mass = Vec::<f64>::try_from(mass).expect("f64");
                for id in special().banned.iter().chain(&special().end) {
                    mass[*id as usize] = 0.0;
                }
                let total: f64 = mass.iter().sum();
                let below = |id: u32| mass[..id as usize].iter().sum::<f64>() / total;
                let draw = key.draws(request.id, response, place + 1)[place];
                for id in [a.ids[place], b.ids[place]] {
                    let (low, high) = (below(id) - ROUNDING, below(id + 1) + ROUNDING);
                    assert!(low <= draw && draw <= high, "{draw} drew {id}, which has {low} to {high}");
                }
            }
        }
        parted
    }
}

#[test]
fn no_row_is_decoded_for_a_finished_response() {
    for world in worlds() {
        let requests = world.requests(8);
        let endless = Sampling { top_k: 0, max_new_tokens: 200, min_new_tokens: 8, ..Sampling::default() };
        let (qwen, params) = (&world.qwen, &world.params);
        let limits = Limits { rows: 16, prefill_tokens: 64 };
        let mut rollout =
            Rollout::new(qwen, params, &requests, &endless, &special(), DrawKey::default(), limits);
        while rollout.step() {}
        let (rows, tokens) = (rollout.rows_decoded(), rollout.tokens());
        let lengths: Vec<usize> = rollout.finish().iter().flatten().map(|r| r.ids.len()).collect();
        assert!(lengths.iter().min() < lengths.iter().max(), "{lengths:?}");
        assert!(rows as f64 <= 1.1 * tokens as f64, "{rows} rows for {tokens} tokens");
    }
}

/// The world with adapters beside its weights, and with the same merged into them.
fn adapted(world: &World) -> (World, World) {
    let lora =
        settings::Lora { rank: 3, alpha: 6.0, targets: settings::Targets::AllLinear, ..Default::default() };
    let adapters = crate::lora::Adapters::choose(&world.qwen.config, &lora).expect("linear maps");
    let (beside, merged) = crate::lora::tests::both(&adapters, world.qwen.kind);
    let with = |params, adapters| World {
        qwen: Qwen { adapters, ..world.qwen.clone() },
        params,
        prompts: world.prompts.clone(),
        pictures: world.pictures.clone(),
        by_tensors: world.by_tensors,
    };
    (with(beside, adapters), with(merged, crate::lora::Adapters::none()))
}

/// The largest distance of two lists.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn adapters_decode_as_the_full_forward_pass_and_as_merged_weights() {
    for world in worlds() {
        let (beside, merged) = adapted(&world);
        let requests = beside.requests(3);
        for (request, responses) in
            requests.iter().zip(beside.roll(&requests, &sampling(), Limits::default()))
        {
            for Response { ids, logprobs } in responses {
                let (full, sum) = (beside.score(request, &ids), merged.score(request, &ids));
                assert!(apart(&logprobs, &full) < 1e-5, "{}", apart(&logprobs, &full));
                assert!(apart(&full, &sum) < 1e-4, "{}", apart(&full, &sum));
                // They do something.
                assert!(apart(&full, &world.score(request, &ids)) > 0.01);
            }
        }
    }
}

#[test]
fn in_bf16_a_rollout_beside_its_adapters_is_nearer_to_training_than_a_merged_one() {
    let (beside, merged) = adapted(&world(Kind::BFloat16));
    let requests = beside.requests(6);
    let gap = |rolling: &World| {
        let mut gaps = Vec::new();
        for (request, responses) in
            requests.iter().zip(rolling.roll(&requests, &sampling(), Limits::default()))
        {
            for Response { ids, logprobs } in responses {
                let trained = beside.score(request, &ids);
                gaps.extend(logprobs.iter().zip(trained).map(|(a, b)| f64::from((a - b).abs())));
            }
        }
        gaps.iter().sum::<f64>() / gaps.len() as f64
    };
    let (near, far) = (gap(&beside), gap(&merged));
    println!("mean distance from training: beside {near:.2e}, merged {far:.2e}");
    assert!(near < far, "beside {near:.2e}, merged {far:.2e}");
}
