//! The Gloo group between real processes: this test binary starts itself as the peers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use collective::{Bind, Error, GlooGroup, Group, Operation, Patience, ReduceOp, Sent, Store, Work};
use common::{AMPLE, check_all_operations, check_overlap};
use tch::{Device, Kind, Tensor};

/// `store rank`: makes this binary a peer instead of a test.
const PEER: &str = "COLLECTIVE_TEST_PEER";

/// Values a rank.
const SENT: i64 = 100_000;

/// Well under a second, on a busy machine.
const FAST: Duration = Duration::from_millis(800);

/// What a closed group gives operations that Gloo tells nothing.
const ENDING: Duration = Duration::from_secs(1);

/// Operations that run at once.
const MANY: usize = 8;

/// What moves: much more than the sockets on both sides hold.
#[derive(Clone, Copy)]
enum Big {
    /// From rank 0 to all.
    Broadcast,
    /// Both ways.
    Shift,
    /// Many at once, both ways.
    Sums,
}

impl Big {
    /// Bytes by which a rank other than 0 says that it is ready to receive, and to send where it does: 48 each.
    fn announced(self) -> u64 {
        match self {
            Big::Broadcast => 48,
            Big::Shift | Big::Sums => 96,
        }
    }

    fn start(self, group: &GlooGroup) -> Vec<Work> {
        let tensor = |millions: i64| Tensor::ones([millions * 1_000_000], (Kind::Float, Device::Cpu));
        match self {
            Big::Broadcast => vec![group.broadcast(&tensor(16), 0).unwrap()],
            Big::Shift => vec![group.shift(&tensor(16), &tensor(16), 1).unwrap()],
            Big::Sums => (0..MANY).map(|_| group.all_reduce(&tensor(2), ReduceOp::Sum).unwrap()).collect(),
        }
    }
}

/// Waits for all while another thread aborts the group; how many end in an error, of which each is that.
fn abort(group: &GlooGroup, works: Vec<Work>) -> usize {
    let aborter = group.aborter();
    let aborting = std::thread::spawn(move || aborter.abort());
    let errors: Vec<Error> = works.into_iter().filter_map(|work| work.wait(AMPLE).err()).collect();
    aborting.join().unwrap();
    let expected = |error: &Error| matches!(error, Error::Closed | Error::PeerLost { .. });
    assert!(errors.iter().all(expected), "{errors:?}");
    errors.len()
}

fn bind() -> Bind {
    Bind::Host("127.0.0.1".into())
}

fn ones() -> Tensor {
    Tensor::ones([100_000], (Kind::Float, Device::Cpu))
}

fn sum(group: &GlooGroup, deadline: Duration) -> Result<f64, Error> {
    let tensor = ones();
    group.all_reduce(&tensor, ReduceOp::Sum)?.wait(deadline)?;
    Ok(tensor.double_value(&[0]))
}

/// One operation of each kind that training uses, on as many values.
fn send(group: &dyn Group) -> [(Sent, u64); 3] {
    let world = group.world_size() as i64;
    let tensor = |n: i64| Tensor::ones([n], (Kind::Float, Device::Cpu));
    let (whole, part) = (tensor(SENT * world), tensor(SENT));
    let measured = |start: &dyn Fn() -> Result<Work, Error>| {
        let before = (group.sent(), group.wire_bytes().unwrap());
        start().unwrap().wait(AMPLE).unwrap();
        // What was written to a socket may still lie there; behind the barrier it has arrived.
        group.barrier().unwrap().wait(AMPLE).unwrap();
        (group.sent() - before.0, group.wire_bytes().unwrap() - before.1)
    };
    [
        measured(&|| group.all_reduce(&whole, ReduceOp::Sum)),
        measured(&|| group.all_gather_base(&whole, &part)),
        measured(&|| group.reduce_scatter_base(&part, &whole, ReduceOp::Sum)),
    ]
}

/// A child process that obeys a line at a time: `form EPOCH WORLD`, `check`, `sum`, `send`, `broadcast`, `shift`,
/// `sums`, `abort`, `leave`.
struct Peer {
    process: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn spawn(store: SocketAddr, rank: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "without_orders_a_peer_does_nothing", "--nocapture"])
            .env(PEER, format!("{store} {rank}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, orders, answers }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    fn answer(&mut self) -> String {
        self.answers
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.split_once("PEER ").map(|(_, answer)| answer.to_owned()))
            .expect("the peer answers before it ends")
    }

    /// Without further orders; whether it ended well.
    fn ends(mut self) -> bool {
        drop(self.orders.take());
        self.process.wait().unwrap().success()
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn without_orders_a_peer_does_nothing() {
    let Ok(place) = std::env::var(PEER) else { return };
    let (store, rank) = place.split_once(' ').unwrap();
    let store = Store::connect(store.parse().unwrap(), AMPLE).unwrap();
    let (mut group, mut begun) = (None, Vec::new());
    for order in stdin().lines().map(Result::unwrap) {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["form", epoch, world] => {
                let (epoch, world) = (epoch.parse().unwrap(), world.parse().unwrap());
                let rank = rank.parse().unwrap();
                group = Some(GlooGroup::form(&store, epoch, rank, world, &bind(), AMPLE).unwrap());
                println!("PEER formed");
            }
            ["check"] => {
                check_all_operations(group.as_ref().unwrap());
                check_overlap(group.as_ref().unwrap());
                println!("PEER checked");
            }
            ["sum"] => match sum(group.as_ref().unwrap(), AMPLE) {
                Ok(sum) => println!("PEER {sum}"),
                Err(error) => println!("PEER {error:?}"),
            },
            ["send"] => {
                send(group.as_ref().unwrap());
                println!("PEER sent");
            }
            ["broadcast" | "shift" | "sums"] => {
                let big = match words[0] {
                    "broadcast" => Big::Broadcast,
                    "shift" => Big::Shift,
                    _ => Big::Sums,
                };
                let group = group.as_ref().unwrap();
                let before = group.wire_bytes().unwrap();
                begun = big.start(group);
                sends(group, before, big.announced());
                println!("PEER begun");
            }
            ["abort"] => {
                let errors = abort(group.as_ref().unwrap(), std::mem::take(&mut begun));
                group = None;
                println!("PEER {errors}");
            }
            ["leave"] => {
                group = None;
                println!("PEER left");
            }
            _ => panic!("unknown order {order:?}"),
        }
    }
}

/// Rank 0 here, the others in processes.
fn world(size: usize) -> (Store, SocketAddr, Vec<Peer>) {
    let (store, address) = Store::host(([127, 0, 0, 1], 0).into()).unwrap();
    let peers = (1..size).map(|rank| Peer::spawn(address, rank)).collect();
    (store, address, peers)
}

fn form(store: &Store, epoch: u64, peers: &mut [Peer]) -> GlooGroup {
    let world = peers.len() + 1;
    peers.iter_mut().for_each(|peer| peer.order(&format!("form {epoch} {world}")));
    let group = GlooGroup::form(store, epoch, 0, world, &bind(), AMPLE).unwrap();
    peers.iter_mut().for_each(|peer| assert_eq!(peer.answer(), "formed"));
    group
}

#[test]
fn all_operations_equal_plain_arithmetic_between_processes() {
    for size in 2..=3 {
        let (store, _, mut peers) = world(size);
        let group = form(&store, 1, &mut peers);
        peers.iter_mut().for_each(|peer| peer.order("check"));
        check_all_operations(&group);
        check_overlap(&group);
        peers.iter_mut().for_each(|peer| assert_eq!(peer.answer(), "checked"));
    }
}

#[test]
fn what_is_counted_as_sent_is_what_the_kernel_sends() {
    for size in 2..=3 {
        let (store, _, mut peers) = world(size);
        let group = form(&store, 1, &mut peers);
        peers.iter_mut().for_each(|peer| peer.order("send"));
        let kinds = send(&group);
        peers.iter_mut().for_each(|peer| assert_eq!(peer.answer(), "sent"));
        let (others, bytes) = (size as u64 - 1, 4 * SENT as u64);
        assert_eq!(kinds.map(|(sent, _)| sent.all_reduce), [2 * others * bytes, 0, 0]);
        assert_eq!(kinds.map(|(sent, _)| sent.all_gather), [0, others * bytes, 0]);
        assert_eq!(kinds.map(|(sent, _)| sent.reduce_scatter), [0, 0, others * bytes]);
        for (counted, (sent, wire)) in kinds.into_iter().enumerate() {
            let beside = wire as f64 / sent.total() as f64 - 1.0;
            assert!(
                (-0.001..0.02).contains(&beside),
                "kind {counted} of {size}: {sent:?}, on the wire {wire}"
            );
        }
    }
}

#[test]
fn a_killed_peer_is_lost_to_all_at_once_and_a_new_epoch_forms() {
    let (store, address, mut peers) = world(3);
    let group = form(&store, 1, &mut peers);
    peers[0].order("sum");
    let tensor = ones();
    let work = group.all_reduce(&tensor, ReduceOp::Sum).unwrap();

    let start = Instant::now();
    peers[1].process.kill().unwrap();
    let error = work.wait(AMPLE).unwrap_err();
    assert!(matches!(error, Error::PeerLost { .. }), "{error}");
    let answer = peers[0].answer();
    assert!(answer.starts_with("PeerLost"), "{answer}");
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());
    assert!(matches!(sum(&group, AMPLE), Err(Error::PeerLost { .. })));
    group.shutdown();
    assert_eq!(sum(&group, AMPLE), Err(Error::Closed));

    peers[1] = Peer::spawn(address, 2);
    let group = form(&store, 2, &mut peers);
    peers.iter_mut().for_each(|peer| peer.order("sum"));
    assert_eq!(sum(&group, AMPLE), Ok(3.0));
    peers.iter_mut().for_each(|peer| assert_eq!(peer.answer(), "3"));
}

#[test]
fn a_stopped_peer_is_a_timeout_at_the_deadline_and_the_shutdown_ends_at_once() {
    let (store, address, mut peers) = world(2);
    let group = form(&store, 1, &mut peers);
    peers[0].signal("-STOP");

    let deadline = Duration::from_millis(300);
    let start = Instant::now();
    let error = sum(&group, deadline).unwrap_err();
    assert!(matches!(error, Error::Timeout { operation: Operation::AllReduce, .. }), "{error}");
    assert!((deadline..deadline + FAST).contains(&start.elapsed()), "{:?}", start.elapsed());

    let start = Instant::now();
    group.shutdown();
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());

    let group = form(&store, 2, &mut [Peer::spawn(address, 1)]);
    drop(group);

    peers[0].order("sum");
    peers[0].signal("-CONT");
    let answer = peers[0].answer();
    assert!(answer.starts_with("PeerLost"), "{answer}");
}

#[test]
fn an_abort_ends_a_forming_whose_peer_stopped_while_it_connected() {
    let (store, _, mut peers) = world(2);
    peers[0].signal("-STOP");
    peers[0].order("form 1 2");
    let patience = Patience::new(AMPLE);
    let aborter = patience.aborter();
    let forming = std::thread::spawn(move || {
        let error = GlooGroup::form(&store, 1, 0, 2, &bind(), patience).err().unwrap();
        (error, Instant::now(), store)
    });
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    aborter.abort();
    let (error, end, store) = forming.join().unwrap();
    assert_eq!(error, Error::Closed);
    assert!(end - start < FAST, "{:?}", end - start);
    let address = store.address();
    let _group = form(&store, 2, &mut [Peer::spawn(address, 1)]);
}

#[test]
fn a_peer_that_leaves_after_the_last_operation_harms_nobody() {
    let (store, _, mut peers) = world(3);
    for epoch in 1..=5 {
        let group = form(&store, epoch, &mut peers);
        for peer in &mut peers {
            peer.order("sum");
            peer.order("leave");
        }
        assert_eq!(sum(&group, AMPLE), Ok(3.0));
        drop(group);
        for peer in &mut peers {
            assert_eq!((peer.answer(), peer.answer()), ("3".into(), "left".into()));
        }
    }
}

/// Gloo tells an operation nothing whose message is half sent (here) or half received (there).
#[test]
fn operations_with_a_message_on_the_way_end_soon_after_the_abort_on_both_sides() {
    let (store, _, mut peers) = world(2);
    let bigs = [("broadcast", Big::Broadcast), ("shift", Big::Shift), ("sums", Big::Sums)];
    for (epoch, (name, big)) in (1..).zip(bigs.into_iter().cycle().take(9)) {
        let group = form(&store, epoch, &mut peers);
        peers[0].order(name);
        assert_eq!(peers[0].answer(), "begun");
        peers[0].signal("-STOP");
        let before = group.wire_bytes().unwrap();
        let works = big.start(&group);
        let count = works.len();
        // It cannot arrive whole where nobody reads.
        sends(&group, before, 64 << 10);

        let start = Instant::now();
        assert_eq!(abort(&group, works), count, "{name}");
        group.shutdown();
        assert!(start.elapsed() < ENDING + FAST, "{name}: {:?}", start.elapsed());

        peers[0].signal("-CONT");
        let start = Instant::now();
        peers[0].order("abort");
        let errors: usize = peers[0].answer().parse().unwrap();
        assert!((1..=count).contains(&errors), "{name}: {errors} of {count}");
        assert!(start.elapsed() < ENDING + FAST, "{name}: {:?}", start.elapsed());
    }
    // With threads of Gloo that still wait, a process ends as any other does.
    let start = Instant::now();
    assert!(peers.remove(0).ends());
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());
}

/// Returns when `more` bytes than `before` are on the wire.
fn sends(group: &GlooGroup, before: u64, more: u64) {
    let deadline = Instant::now() + AMPLE;
    while group.wire_bytes().unwrap() < before + more {
        assert!(Instant::now() < deadline, "nothing is sent");
        std::thread::yield_now();
    }
}
