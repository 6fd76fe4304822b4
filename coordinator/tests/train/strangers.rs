//! What comes to an open port: scans, noise, giants, crowds. The run does not notice, and memory stays bounded.

use std::io::Write as _;
use std::net::TcpStream;

use tokio::runtime::Runtime;

use crate::light::{Faults, serve};
use crate::raw::Raw;
use crate::support::{Running, Scenario};

/// Both ranks come in and finish the run, in whatever company.
fn finishes(running: Running<'_>, address: &str) {
    Runtime::new().unwrap().block_on(async {
        let [first, second] = [0, 1].map(|rank| {
            let address = address.to_owned();
            tokio::spawn(async move { serve(rank, &address, Faults::default()).await })
        });
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
    });
    let said = running.end().expect(0).stderr;
    assert!(!said.contains("epoch 2") && !said.contains("is repeated"), "{said}");
}

fn external() -> Scenario {
    let scenario = Scenario::new("{ name: explore, steps: 5, evaluation: { every: 0 } }");
    scenario.hosts("external", "127.0.0.1:0");
    scenario
}

/// As much as a coordinator of two workers may take whoever knocks, bytes.
const BOUND: u64 = 200 << 20;

#[test]
fn a_port_scan_and_random_bytes_are_not_noticed() {
    let scenario = external();
    let running = scenario.start(&[], &[]);
    let address = running.address();
    for _ in 0..2000 {
        drop(TcpStream::connect(&address).unwrap());
    }
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut kept = Vec::new();
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length * 64)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        let mut stream = TcpStream::connect(&address).unwrap();
        // It may be closed before all is said.
        let _ = stream.write_all(&bytes);
        kept.push(stream);
    }
    let peak = running.peak_memory();
    assert!(peak < BOUND, "{peak} bytes");
    finishes(running, &address);
}

#[test]
fn a_message_of_a_gibibyte_said_or_sent_is_cut_off_and_not_kept() {
    let scenario = external();
    let running = scenario.start(&[], &[]);
    let address = running.address();
    let mut kept = Vec::new();
    for _ in 0..100 {
        for length in [1 << 30, u32::MAX, proto::MAX_MESSAGE_BYTES as u32] {
            let mut raw = Raw::open(&address).unwrap();
            raw.session(1).and_then(|()| raw.announce(1, length)).unwrap();
            kept.push(raw);
        }
    }
    for length in [1 << 30, proto::MAX_MESSAGE_BYTES as u32] {
        let mut raw = Raw::open(&address).unwrap();
        raw.session(1).and_then(|()| raw.announce(1, length)).unwrap();
        raw.pour(1, 1 << 30).expect_err("the connection is closed long before a gibibyte has passed");
    }
    let peak = running.peak_memory();
    assert!(peak < BOUND, "{peak} bytes");
    finishes(running, &address);
}

#[test]
fn thousands_of_half_open_streams_leave_room_for_workers() {
    let scenario = external();
    let running = scenario.start(&[], &[]);
    let address = running.address();
    let mut kept = Vec::new();
    for _ in 0..1500 {
        let mut raw = Raw::open(&address).unwrap();
        // Whoever has waited longest is sent away.
        let _ = raw.session(1).and_then(|()| raw.session(3));
        kept.push(raw);
    }
    let peak = running.peak_memory();
    assert!(peak < BOUND, "{peak} bytes");
    finishes(running, &address);
    assert_eq!(kept.len(), 1500);
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
