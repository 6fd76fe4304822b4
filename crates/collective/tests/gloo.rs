//! The Gloo group, ranks in threads of one process.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use collective::{Bind, Error, GlooGroup, Group, Operation, Patience, ReduceOp, Store};
use common::{AMPLE, check_all_operations, check_overlap};
use tch::{Device, Kind, Tensor};

const SHORT: Duration = Duration::from_millis(300);

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn bind() -> Bind {
    Bind::Host("127.0.0.1".into())
}

fn ones() -> Tensor {
    Tensor::ones([1000], (Kind::Float, Device::Cpu))
}

/// Runs `body` on every rank of an epoch, each with a store connection of its own.
fn on_each_rank(store: SocketAddr, epoch: u64, world: usize, body: fn(GlooGroup)) {
    let ranks: Vec<_> = (0..world)
        .map(|rank| {
            thread::spawn(move || {
                let store = Store::connect(store, AMPLE).unwrap();
                body(GlooGroup::form(&store, epoch, rank, world, &bind(), AMPLE).unwrap());
            })
        })
        .collect();
    ranks.into_iter().for_each(|rank| rank.join().unwrap());
}

#[test]
fn all_operations_equal_plain_arithmetic_on_one_to_three_ranks() {
    let (_store, address) = Store::host(loopback()).unwrap();
    for world in 1..=3 {
        on_each_rank(address, world as u64, world, |group| check_all_operations(&group));
    }
}

#[test]
fn operations_overlap_and_are_waited_for_in_any_order() {
    let (_store, address) = Store::host(loopback()).unwrap();
    on_each_rank(address, 1, 3, |group| check_overlap(&group));
}

#[test]
fn a_world_of_one_forms_without_meeting_anyone() {
    let (store, _) = Store::host(loopback()).unwrap();
    let group = GlooGroup::form(&store, 1, 0, 1, &bind(), Duration::ZERO).unwrap();
    let tensor = ones();
    group.all_reduce(&tensor, ReduceOp::Sum).unwrap().wait(SHORT).unwrap();
    assert_eq!(tensor.double_value(&[0]), 1.0);
}

#[test]
fn an_absent_rank_is_a_timeout_of_the_forming() {
    let (store, _) = Store::host(loopback()).unwrap();
    let start = Instant::now();
    let error = GlooGroup::form(&store, 1, 0, 2, &bind(), SHORT).err().unwrap();
    assert!(matches!(error, Error::Timeout { operation: Operation::Form, .. }), "{error}");
    assert!(start.elapsed() < SHORT * 10, "{:?}", start.elapsed());
}

/// Well under a second, on a busy machine.
const FAST: Duration = Duration::from_millis(800);

#[test]
fn an_abort_ends_a_forming_to_which_a_rank_does_not_come_and_the_next_epoch_forms() {
    let (store, address) = Store::host(loopback()).unwrap();
    let patience = Patience::new(AMPLE);
    let aborter = patience.aborter();
    let waiting = thread::spawn(move || {
        let error = GlooGroup::form(&store, 1, 0, 2, &bind(), patience).err().unwrap();
        (error, Instant::now(), store)
    });
    // Long enough for the rank to have come to the meeting; the abort ends an earlier state as well.
    thread::sleep(SHORT);
    let start = Instant::now();
    aborter.abort();
    let (error, end, _store) = waiting.join().unwrap();
    assert_eq!(error, Error::Closed);
    assert!(end - start < FAST, "{:?}", end - start);
    on_each_rank(address, 2, 2, |group| check_overlap(&group));
}

#[test]
fn an_abort_before_the_forming_ends_it_too() {
    let (store, _) = Store::host(loopback()).unwrap();
    let patience = Patience::new(AMPLE);
    patience.aborter().abort();
    let start = Instant::now();
    assert_eq!(GlooGroup::form(&store, 1, 0, 2, &bind(), patience).err(), Some(Error::Closed));
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());
}

#[test]
fn the_stores_end_ends_a_forming_at_once() {
    let (store, address) = Store::host(loopback()).unwrap();
    let waiting = thread::spawn(move || {
        let store = Store::connect(address, AMPLE).unwrap();
        let error = GlooGroup::form(&store, 1, 1, 2, &bind(), AMPLE).err().unwrap();
        (error, Instant::now())
    });
    thread::sleep(SHORT);
    let start = Instant::now();
    drop(store);
    let (error, end) = waiting.join().unwrap();
    assert!(matches!(error, Error::PeerLost { .. }), "{error:?}");
    assert!(end - start < FAST, "{:?}", end - start);
}

#[test]
fn an_abort_ends_the_search_for_a_store_that_is_not_there() {
    // Bound and never listening: nobody else gets the port, and nobody answers.
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let patience = Patience::new(AMPLE);
    let aborter = patience.aborter();
    let searching = thread::spawn(move || (Store::connect(nowhere, patience).err(), Instant::now()));
    thread::sleep(SHORT);
    let start = Instant::now();
    aborter.abort();
    let (error, end) = searching.join().unwrap();
    assert_eq!(error, Some(Error::Closed));
    assert!(end - start < FAST, "{:?}", end - start);
}

#[test]
fn a_rank_outside_the_world_is_refused() {
    let (store, _) = Store::host(loopback()).unwrap();
    let error = GlooGroup::form(&store, 1, 2, 2, &bind(), SHORT).err().unwrap();
    assert_eq!(error.to_string(), "forming the group: rank: expected a rank below the world size 2, got 2");
}

#[test]
fn an_abort_from_another_thread_ends_a_wait_and_the_next_epoch_forms() {
    let (_store, address) = Store::host(loopback()).unwrap();
    let silent = thread::spawn(move || {
        let store = Store::connect(address, AMPLE).unwrap();
        let group = GlooGroup::form(&store, 1, 1, 2, &bind(), AMPLE).unwrap();
        // Ends when the other side has closed: the silent rank takes no part in the all-reduce.
        let error = group.barrier().unwrap().wait(AMPLE).unwrap_err();
        assert!(matches!(error, Error::PeerLost { .. }), "{error}");
    });
    let store = Store::connect(address, AMPLE).unwrap();
    let group = GlooGroup::form(&store, 1, 0, 2, &bind(), AMPLE).unwrap();
    let aborter = group.aborter();
    let tensor = ones();
    let work = group.all_reduce(&tensor, ReduceOp::Sum).unwrap();
    let aborting = thread::spawn(move || aborter.abort());
    assert_eq!(work.wait(AMPLE), Err(Error::Closed));
    aborting.join().unwrap();
    assert!(matches!(group.barrier(), Err(Error::Closed)));
    silent.join().unwrap();
    on_each_rank(address, 2, 2, |group| check_overlap(&group));
}

#[test]
fn one_groups_shutdown_leaves_another_group_of_the_process_alone() {
    let (_store, address) = Store::host(loopback()).unwrap();
    let ranks: Vec<_> = (0..2)
        .map(|rank| {
            thread::spawn(move || {
                let store = Store::connect(address, AMPLE).unwrap();
                let first = GlooGroup::form(&store, 1, rank, 2, &bind(), AMPLE).unwrap();
                let second = GlooGroup::form(&store, 2, rank, 2, &bind(), AMPLE).unwrap();
                first.shutdown();
                check_overlap(&second);
                drop(first);
                check_overlap(&second);
            })
        })
        .collect();
    ranks.into_iter().for_each(|rank| rank.join().unwrap());
}

#[test]
fn a_group_listens_on_its_own_address_alone() {
    let (_store, address) = Store::host(loopback()).unwrap();
    let ranks: Vec<_> = (0..2)
        .map(|rank| {
            thread::spawn(move || {
                let store = Store::connect(address, AMPLE).unwrap();
                let bind = Bind::Host("127.0.0.77".into());
                let group = GlooGroup::form(&store, 1, rank, 2, &bind, AMPLE).unwrap();
                let listening = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
                // Address and state as the kernel prints them: 127.0.0.77 reversed in hexadecimal, 0A is LISTEN.
                let ours =
                    listening.lines().filter(|line| line.contains(" 4D00007F:") && line.contains(" 0A "));
                assert!(ours.count() >= 1, "{listening}");
                group.barrier().unwrap().wait(AMPLE).unwrap();
            })
        })
        .collect();
    ranks.into_iter().for_each(|rank| rank.join().unwrap());
}

#[test]
fn a_foreign_address_or_interface_cannot_be_bound() {
    let (store, _) = Store::host(loopback()).unwrap();
    for bind in [Bind::Host("203.0.113.9".into()), Bind::Interface("none0".into())] {
        let error = GlooGroup::form(&store, 1, 0, 2, &bind, SHORT).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. } | Error::Internal { .. }), "{error:?}");
    }
    assert!(matches!(Store::host(([203, 0, 113, 9], 0).into()), Err(Error::Unsupported { .. })));
}
