use tch::Device;

use super::super::element::Bf16;
use super::*;
use crate::attention::Plan;
use crate::ops::Rotation;
use crate::text::Qkv;

/// Samples of ragged prompts and completions, in packed order.
fn segments(lengths: &[(usize, &[usize])]) -> (Vec<Segment>, i64) {
    let mut at = 0;
    let mut take = |length: usize| {
        at += length;
        at - length..at
    };
    let segments = lengths
        .iter()
        .map(|(prompt, completions)| Segment {
            prompt: take(*prompt),
            completions: completions.iter().map(|length| take(*length)).collect(),
        })
        .collect();
    (segments, at as i64)
}

/// The largest differences of output and gradients from the way of tensor operations in f32, each relative to the
/// largest of its kind.
fn apart<T: Element>(lengths: &[(usize, &[usize])], heads: i64, kv_heads: i64, head: i64) -> Vec<f64> {
    tch::manual_seed(heads + head);
    let (segments, tokens) = segments(lengths);
    let cpu = (Kind::Float, Device::Cpu);
    let rounded = |x: Tensor| x.to_kind(T::KIND).to_kind(Kind::Float);
    let random = |heads: i64| rounded(Tensor::randn([tokens, heads, head], cpu) * 2.0);
    let leaves = [heads, kv_heads, kv_heads].map(|n| random(n).set_requires_grad(true));
    let angles = Tensor::randn([tokens, head / 2], cpu) * 3.0;
    let dy = rounded(Tensor::randn([tokens, heads * head], cpu));

    let [q, k, v] = leaves.each_ref().map(Tensor::shallow_clone);
    let table = Rotation::new(&angles, T::KIND);
    let wide = Rotation { cos: table.cos.to_kind(Kind::Float), sin: table.sin.to_kind(Kind::Float) };
    let Qkv { q, k, v } = Qkv { q, k, v }.rotated(&wide);
    let plan = Plan::new(segments.clone(), Kind::Float, Device::Cpu);
    let expected = plan.attend_rotated(&q, &k, &v);
    (&expected * &dy).sum(Kind::Float).backward();

    let [q, k, v] = leaves.each_ref().map(|leaf| leaf.detach().to_kind(T::KIND));
    let inputs = Inputs { q: &q, k: &k, v: &v, cos: &table.cos, sin: &table.sin };
    let (out, totals) = attend_packed::<T>(&inputs, &segments);
    let dy = dy.to_kind(T::KIND);
    let gradients = attend_packed_backward::<T>(&inputs, &segments, &out, &totals, &dy);
    let gap = |got: &Tensor, expected: &Tensor| {
        ((got.to_kind(Kind::Float) - expected).abs().max() / expected.abs().max()).double_value(&[])
    };
    let grads = gradients.iter().zip(&leaves).map(|(got, leaf)| gap(got, &leaf.grad()));
    std::iter::once(gap(&out, &expected.detach())).chain(grads).collect()
}

const RAGGED: &[(usize, &[usize])] =
    &[(5, &[1, 40, 33, 2]), (70, &[16, 32, 17]), (1, &[1]), (37, &[]), (64, &[100, 3])];

#[test]
fn values_and_gradients_are_those_of_tensor_operations() {
    for (heads, kv_heads, head) in [(4, 2, 16), (3, 1, 64), (2, 2, 24), (8, 2, 128), (6, 3, 10)] {
        for gap in apart::<f32>(RAGGED, heads, kv_heads, head) {
            assert!(gap < 5e-6, "{heads} heads over {kv_heads}, {head} wide: {gap}");
        }
    }
}

#[test]
fn in_bf16_only_what_is_stored_is_rounded() {
    for (heads, kv_heads, head) in [(4, 2, 16), (3, 1, 64)] {
        for gap in apart::<Bf16>(RAGGED, heads, kv_heads, head) {
            assert!(gap < 2e-2, "{heads} heads over {kv_heads}, {head} wide: {gap}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let threads = tch::get_num_threads();
    let (segments, tokens) = segments(RAGGED);
    tch::manual_seed(1);
    let random = |heads: i64| Tensor::randn([tokens, heads, 16], (Kind::Float, Device::Cpu));
    let (q, k, v) = (random(4), random(2), random(2));
    let table = Rotation::new(&Tensor::randn([tokens, 8], (Kind::Float, Device::Cpu)), Kind::Float);
    let inputs = Inputs { q: &q, k: &k, v: &v, cos: &table.cos, sin: &table.sin };
    let results = [1, 2].map(|threads| {
        tch::set_num_threads(threads);
        let (out, totals) = attend_packed::<f32>(&inputs, &segments);
        let [dq, dk, dv] = attend_packed_backward::<f32>(&inputs, &segments, &out, &totals, &out);
        [out, totals, dq, dk, dv]
    });
    tch::set_num_threads(threads);
    for (one, two) in results[0].iter().zip(&results[1]) {
        assert_eq!(one, two);
    }
}
