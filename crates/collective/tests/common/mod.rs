//! What the tests of every transport share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use collective::{Group, ReduceOp};
use tch::{Device, Kind, Tensor};

/// Ample: no test that passes waits this long.
pub(crate) const AMPLE: Duration = Duration::from_secs(30);

/// Value `index` of `rank`: small whole numbers, whose sums bf16 holds exactly.
fn value(rank: usize, index: usize) -> f64 {
    ((rank * 7 + index * 3) % 11) as f64 - 5.0
}

fn tensor(kind: Kind, values: impl Iterator<Item = f64>) -> Tensor {
    Tensor::from_slice(&values.collect::<Vec<f64>>()).to_kind(kind)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).view([-1])).expect("f64 values")
}

/// Runs every operation on f32, bf16 and i64 and compares with plain arithmetic.
pub(crate) fn check_all_operations(group: &dyn Group) {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Int64] {
        for n in [1, 5, 3000] {
            check_operations(group, kind, n);
        }
    }
    check_empty(group);
    group.barrier().expect("barrier starts").wait(AMPLE).expect("barrier ends");
}

fn check_operations(group: &dyn Group, kind: Kind, n: usize) {
    let (rank, world) = (group.rank(), group.world_size());
    let over = |index: usize, op: ReduceOp| {
        let values = (0..world).map(|rank| value(rank, index));
        match op {
            ReduceOp::Sum => values.sum(),
            ReduceOp::Min => values.fold(f64::INFINITY, f64::min),
            ReduceOp::Max => values.fold(f64::NEG_INFINITY, f64::max),
        }
    };
    for op in [ReduceOp::Sum, ReduceOp::Min, ReduceOp::Max] {
        let reduced = tensor(kind, (0..n).map(|i| value(rank, i)));
        group.all_reduce(&reduced, op).expect("starts").wait(AMPLE).expect("all-reduce");
        assert_eq!(values(&reduced), (0..n).map(|i| over(i, op)).collect::<Vec<_>>(), "{op:?} {kind:?} {n}");

        let input = tensor(kind, (0..n * world).map(|i| value(rank, i)));
        let output = Tensor::zeros([n as i64], (kind, Device::Cpu));
        group.reduce_scatter_base(&output, &input, op).expect("starts").wait(AMPLE).expect("reduce-scatter");
        let part = rank * n..(rank + 1) * n;
        assert_eq!(values(&output), part.map(|i| over(i, op)).collect::<Vec<_>>(), "{op:?} {kind:?} {n}");
        assert_eq!(values(&input)[0], value(rank, 0), "the input stays");
    }

    for by in 0..world {
        let input = tensor(kind, (0..n).map(|i| value(rank, i)));
        let output = Tensor::zeros([n as i64], (kind, Device::Cpu));
        group.shift(&output, &input, by).expect("starts").wait(AMPLE).expect("shift");
        let from = (rank + world - by) % world;
        assert_eq!(values(&output), (0..n).map(|i| value(from, i)).collect::<Vec<_>>(), "{by} {kind:?} {n}");
    }

    let input = tensor(kind, (0..n).map(|i| value(rank, i)));
    let output = Tensor::zeros([world as i64, n as i64], (kind, Device::Cpu));
    group.all_gather_base(&output, &input).expect("starts").wait(AMPLE).expect("all-gather");
    let expected: Vec<f64> = (0..world).flat_map(|rank| (0..n).map(move |i| value(rank, i))).collect();
    assert_eq!(values(&output), expected, "{kind:?} {n}");

    for root in 0..world {
        let sent = tensor(kind, (0..n).map(|i| value(rank, i)));
        group.broadcast(&sent, root).expect("starts").wait(AMPLE).expect("broadcast");
        assert_eq!(values(&sent), (0..n).map(|i| value(root, i)).collect::<Vec<_>>(), "{kind:?} {n}");
    }
}

fn check_empty(group: &dyn Group) {
    let empty = Tensor::zeros([0], (Kind::Float, Device::Cpu));
    let works = [
        group.all_reduce(&empty, ReduceOp::Sum),
        group.all_gather_base(&empty, &empty.zeros_like()),
        group.reduce_scatter_base(&empty.zeros_like(), &empty, ReduceOp::Sum),
        group.broadcast(&empty, 0),
    ];
    for work in works {
        work.expect("an empty operation starts").wait(AMPLE).expect("an empty operation ends");
    }
}

/// Starts several operations before it waits for the first, and waits for the last one first.
pub(crate) fn check_overlap(group: &dyn Group) {
    let world = group.world_size() as f64;
    let tensors: Vec<Tensor> =
        (0..6).map(|i| Tensor::full([1000 + i], i, (Kind::Float, Device::Cpu))).collect();
    let works: Vec<_> = tensors.iter().map(|t| group.all_reduce(t, ReduceOp::Sum).expect("starts")).collect();
    for work in works.into_iter().rev() {
        work.wait(AMPLE).expect("all-reduce");
    }
    for (i, tensor) in tensors.iter().enumerate() {
        assert_eq!(tensor.double_value(&[0]), i as f64 * world);
    }
}
