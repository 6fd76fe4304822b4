//! A coordinator that another one has taken over from: it changes nothing any more, and says nothing to anybody.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proto::v1::coordinator_message::Body as Order;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::light::{Faults, What, serve};
use crate::recovers::committed;
use crate::support::{PATIENCE, Scenario};

/// Path to SHA-256 or link target of everything in the run folder, without what is the first coordinator's alone: the
/// lease of its term, and the folder of a checkpoint that it did not publish.
fn digests(run: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path == run.join("terms/1") || (name.contains("-step-") && name.contains(".1.")) {
                continue;
            }
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                folders.push(path.clone());
            }
            let digest = match kind {
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                kind if kind.is_dir() => "a folder".into(),
                _ => checkpoint::sha256_file(&path).unwrap(),
            };
            found.insert(path, digest);
        }
    }
    found
}

/// The first coordinator is stopped while its workers have an order before them that `hold_at` says; another one takes
/// the run to its end, with `keep` checkpoints; then the workers answer, and the first goes on.
fn changes_nothing_after(hold_at: fn(&Order) -> bool, keep: u32) {
    let scenario = Scenario::new("{ name: explore, steps: 5 }");
    let keep = format!("checkpoint.keep={keep}");
    let keep = ["--set", keep.as_str()];
    scenario.hosts("external", "127.0.0.1:0");
    let hold = scenario.path("hold");
    fs::write(&hold, "").unwrap();
    let first = scenario.start(&keep, &[]);
    let address = first.address();
    let runtime = Runtime::new().unwrap();
    let (watch, mut seen) = unbounded_channel();
    let mut workers = JoinSet::new();
    for rank in 0..2 {
        let address = address.clone();
        let faults =
            Faults { hold: Some(hold.clone()), hold_at, watch: Some(watch.clone()), ..Faults::default() };
        workers.spawn_on(async move { serve(rank, &address, faults).await }, runtime.handle());
    }
    drop(watch);
    let mut see = |wanted: What| {
        runtime.block_on(async {
            while let Some(seen) = timeout(PATIENCE, seen.recv()).await.expect("the workers go on") {
                if seen.what == wanted {
                    return;
                }
            }
            panic!("the workers ended without {wanted:?}");
        });
    };
    see(What::Held);
    first.signal(libc::SIGSTOP);
    // As if its host had given the run back: the second need not wait for the lease.
    let run = scenario.run_folder();
    fs::write(run.join("terms/1"), "nobody\n0\n").unwrap();
    scenario.hosts("local", "127.0.0.1:0");
    scenario.run(&[keep.as_slice(), &["--resume"]].concat(), &[]).expect(0);
    assert_eq!(committed(&scenario), ((1..=5).collect(), 20));
    fs::remove_file(&hold).unwrap();
    see(What::Answered);
    let before = digests(&run);
    first.signal(libc::SIGCONT);
    let ended = first.end().expect(75);
    assert!(ended.last_word().contains("another coordinator has taken over this run"), "{}", ended.stderr);
    assert_eq!(digests(&run), before, "{}", ended.stderr);
    // It has no say over the workers that it shares with the second.
    runtime.block_on(async {
        while let Some(ended) = timeout(PATIENCE, workers.join_next()).await.expect("the streams close") {
            let _ = ended.unwrap();
        }
        while let Some(seen) = seen.recv().await {
            assert!(!matches!(seen.what, What::Stop | What::Abort), "{seen:?}");
        }
    });
}

#[test]
fn a_coordinator_that_was_replaced_during_an_update_changes_nothing() {
    changes_nothing_after(|order| matches!(order, Order::Update(_)), 1);
}

/// Its successor has published the checkpoint that it is about to begin.
#[test]
fn a_coordinator_that_was_replaced_before_a_checkpoint_changes_nothing() {
    changes_nothing_after(|order| matches!(order, Order::Commit(commit) if commit.step == 2), 9);
}

/// Its successor has removed the checkpoint that it is about to publish.
#[test]
fn a_coordinator_that_was_replaced_while_a_checkpoint_is_written_publishes_nothing() {
    changes_nothing_after(|order| matches!(order, Order::WriteCheckpoint(_)), 1);
}

#[test]
fn a_coordinator_that_was_replaced_during_an_evaluation_changes_nothing() {
    changes_nothing_after(|order| matches!(order, Order::Evaluate(_)), 1);
}
