//! What comes to an open port: scans, noise, giants, crowds. The run does not notice, and memory stays bounded.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::light::{Faults, What, serve};
use crate::raw::Raw;
use crate::support::{PATIENCE, Scenario};

/// As much as a coordinator of two workers may take whoever knocks, bytes.
const BOUND: u64 = 200 << 20;

/// Strangers come before the workers do, and in the midst of a step, and stay: both ranks finish the run, nothing is
/// repeated, and memory stays bounded.
fn are_not_noticed<Stay>(strangers: impl Fn(&str) -> Stay) {
    for before in [true, false] {
        let scenario = Scenario::new("{ name: explore, steps: 5, evaluation: { every: 0 } }");
        scenario.hosts("external", "127.0.0.1:0");
        let running = scenario.start(&[], &[]);
        let address = running.address();
        let (runtime, mut workers) = (Runtime::new().unwrap(), JoinSet::new());
        let (watch, mut seen) = unbounded_channel();
        let hold = scenario.path("hold");
        let mut begin = || {
            for rank in 0..2 {
                let (address, hold, watch) = (address.clone(), Some(hold.clone()), Some(watch.clone()));
                let faults = Faults { hold, watch, ..Faults::default() };
                workers.spawn_on(async move { serve(rank, &address, faults).await }, runtime.handle());
            }
        };
        if !before {
            fs::write(&hold, "").unwrap();
            begin();
            runtime.block_on(async {
                while timeout(PATIENCE, seen.recv()).await.unwrap().unwrap().what != What::Held {}
            });
        }
        let stay = strangers(&address);
        let peak = running.peak_memory();
        assert!(peak < BOUND, "{peak} bytes");
        if before {
            begin();
        } else {
            fs::remove_file(&hold).unwrap();
        }
        while let Some(ended) = runtime.block_on(workers.join_next()) {
            ended.unwrap().unwrap();
        }
        let said = running.end().expect(0).stderr;
        assert!(!said.contains("epoch 2") && !said.contains("is repeated"), "{said}");
        drop(stay);
    }
}

#[test]
fn a_port_scan_and_random_bytes_are_not_noticed() {
    are_not_noticed(|address| {
        for _ in 0..2000 {
            drop(TcpStream::connect(address).unwrap());
        }
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        };
        let say = |length: usize| {
            let bytes: Vec<u8> = (0..length * 64).map(|_| next()).collect();
            let mut stream = TcpStream::connect(address).unwrap();
            // It may be closed before all is said.
            let _ = stream.write_all(&bytes);
            stream
        };
        (0..200).map(say).collect::<Vec<_>>()
    });
}

#[test]
fn a_message_of_a_gibibyte_said_or_sent_is_cut_off_and_not_kept() {
    are_not_noticed(|address| {
        let announce = |length| {
            let mut raw = Raw::open(address).unwrap();
            raw.session(1).and_then(|()| raw.announce(1, length)).unwrap();
            raw
        };
        let lengths = [1 << 30, u32::MAX, proto::MAX_MESSAGE_BYTES as u32];
        let stay: Vec<Raw> = lengths.into_iter().cycle().take(300).map(announce).collect();
        for length in [1 << 30, proto::MAX_MESSAGE_BYTES as u32] {
            let poured = announce(length).pour(1, 1 << 30);
            poured.expect_err("the connection is closed long before a gibibyte has passed");
        }
        stay
    });
}

#[test]
fn thousands_of_half_open_streams_leave_room_for_workers() {
    are_not_noticed(|address| {
        let half_open = |_| {
            let mut raw = Raw::open(address).unwrap();
            // Whoever has waited longest is sent away.
            let _ = raw.session(1).and_then(|()| raw.session(3));
            raw
        };
        (0..1500).map(half_open).collect::<Vec<_>>()
    });
}

#[test]
fn replayed_early_and_forged_reports_change_nothing() {
    let quiet = Scenario::new("{ name: explore, steps: 5 }");
    quiet.run(&[], &[]).expect(0);
    let noisy = Scenario::new("{ name: explore, steps: 5 }");
    noisy.run(&[], &[("FAKE_NOISE", "1")]).expect(0);
    let steps = |scenario: &Scenario| -> Vec<serde_json::Value> {
        let text = scenario.read("metrics.jsonl");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["metrics"].clone()).collect()
    };
    assert_eq!(steps(&quiet), steps(&noisy));
}
