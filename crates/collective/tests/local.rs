//! The in-process group.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use collective::{Error, Group, LocalGroup, Operation, ReduceOp};
use common::{AMPLE, check_all_operations, check_overlap};
use tch::{Device, Kind, Tensor};

const SHORT: Duration = Duration::from_millis(50);

fn ones(n: i64) -> Tensor {
    Tensor::ones([n], (Kind::Float, Device::Cpu))
}

fn on_each_rank(world: usize, body: impl Fn(LocalGroup) + Clone + Send + 'static) {
    let ranks: Vec<_> = LocalGroup::world(world)
        .into_iter()
        .map(|group| {
            let body = body.clone();
            thread::spawn(move || body(group))
        })
        .collect();
    ranks.into_iter().for_each(|rank| rank.join().unwrap());
}

#[test]
fn all_operations_equal_plain_arithmetic_on_one_to_three_ranks() {
    for world in 1..=3 {
        on_each_rank(world, |group| check_all_operations(&group));
    }
}

#[test]
fn operations_overlap_and_are_waited_for_in_any_order() {
    on_each_rank(2, |group| check_overlap(&group));
}

#[test]
fn a_silent_peer_is_a_timeout_and_the_operation_lives_on() {
    let mut ranks = LocalGroup::world(2);
    let (silent, group) = (ranks.pop().unwrap(), ranks.pop().unwrap());
    let ours = ones(4);
    let start = Instant::now();
    let error = group.all_reduce(&ours, ReduceOp::Sum).unwrap().wait(SHORT).unwrap_err();
    assert!(matches!(error, Error::Timeout { operation: Operation::AllReduce, waited } if waited >= SHORT));
    assert!(start.elapsed() >= SHORT);

    let late = ones(4);
    silent.all_reduce(&late, ReduceOp::Sum).unwrap().wait(AMPLE).unwrap();
    assert_eq!((ours.double_value(&[0]), late.double_value(&[0])), (2.0, 2.0));
}

#[test]
fn a_peer_that_leaves_is_lost_to_those_that_wait_and_to_later_operations() {
    let mut ranks = LocalGroup::world(3);
    let leaver = ranks.pop().unwrap();
    let waiting: Vec<_> = ranks
        .into_iter()
        .map(|group| {
            thread::spawn(move || {
                let first = group.all_reduce(&ones(1), ReduceOp::Sum).and_then(|work| work.wait(AMPLE));
                let second = group.barrier().and_then(|work| work.wait(AMPLE));
                (first, second)
            })
        })
        .collect();
    drop(leaver);
    for rank in waiting {
        let (first, second) = rank.join().unwrap();
        assert!(matches!(first, Err(Error::PeerLost { .. })), "{first:?}");
        assert!(matches!(second, Err(Error::PeerLost { .. })), "{second:?}");
    }
}

#[test]
fn an_abort_from_another_thread_ends_a_wait() {
    let mut ranks = LocalGroup::world(2);
    let _silent = ranks.pop().unwrap();
    let group = ranks.pop().unwrap();
    let aborter = group.aborter();
    let work = group.barrier().unwrap();
    let aborting = thread::spawn(move || aborter.abort());
    assert_eq!(work.wait(AMPLE), Err(Error::Closed));
    aborting.join().unwrap();
    assert_eq!(group.barrier().map(|_| ()), Err(Error::Closed));
}

#[test]
fn ranks_that_call_different_operations_are_told_so() {
    let mut ranks = LocalGroup::world(2);
    let (b, a) = (ranks.pop().unwrap(), ranks.pop().unwrap());
    let first = a.all_reduce(&ones(2), ReduceOp::Sum).unwrap();
    let second = b.all_reduce(&ones(3), ReduceOp::Sum).unwrap();
    assert!(matches!(first.wait(AMPLE), Err(Error::Mismatch { .. })));
    assert!(matches!(second.wait(AMPLE), Err(Error::Mismatch { .. })));
}

#[test]
fn unfit_tensors_are_refused_before_anything_is_sent() {
    let group = LocalGroup::alone();
    let double = Tensor::ones([2], (Kind::Double, Device::Cpu));
    assert!(matches!(group.all_reduce(&double, ReduceOp::Sum), Err(Error::Unsupported { .. })));
    let transposed = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).tr();
    assert!(matches!(group.all_reduce(&transposed, ReduceOp::Sum), Err(Error::Mismatch { .. })));
    assert!(matches!(group.all_gather_base(&ones(3), &ones(2)), Err(Error::Mismatch { .. })));
    assert!(matches!(group.broadcast(&ones(1), 1), Err(Error::Mismatch { .. })));
    let error = group.reduce_scatter_base(&ones(2), &ones(3), ReduceOp::Sum).unwrap_err();
    assert_eq!(error.to_string(), "reduce-scatter: values of the whole: expected 1 ranks × 2 values, got 3");
}
