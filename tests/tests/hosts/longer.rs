//! Losses in the midst of longer runs, at any moment.

use tests::recovery::{steps, weights};
use tests::running::{Running, wait_for};

use crate::site::{Site, assert_missed};

impl Site {
    /// Waits for the epoch, and for two steps in it.
    fn goes_on_in(&self, running: &Running, epoch: u64) {
        wait_for(&format!("epoch {epoch}"), || {
            (self.status()["epoch"].as_u64().unwrap_or(0) >= epoch).then_some(())
        });
        running.wait_for_steps(self.scene.lines("metrics.jsonl").len() + 2);
    }
}

#[test]
fn a_host_that_loses_power_is_waited_for_and_gets_its_state_back_bit_for_bit() {
    let mut site = Site::new(40, "external");
    let expected = site.scene.undisturbed(2, &[]);
    let running = site.begin(&[]);
    running.wait_for_steps(5);
    site.cluster.call(&["kill", "n2"]);
    site.cluster.call(&["boot", "n2"]);
    site.worker(2);
    assert_missed(&running.end().with(0).stderr, 2);
    site.is_whole(40);
    assert_eq!(weights(&site.scene.run_folder()), expected);
}

#[test]
fn a_host_that_loses_power_for_long_leaves_a_smaller_world_and_is_taken_in_when_it_is_back() {
    let mut site = Site::new(150, "external");
    let running = site.begin(&["--set", "recovery.min_world=1", "--set", "recovery.restart_grace=1"]);
    running.wait_for_steps(5);
    site.cluster.call(&["kill", "n2"]);
    site.goes_on_in(&running, 2);
    site.cluster.call(&["boot", "n2"]);
    site.worker(2);
    site.goes_on_in(&running, 3);
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("rank 1 on n2 was lost"), "{}", ended.stderr);
    site.is_whole(150);
    let sizes: Vec<usize> = steps(&site.scene.run_folder()).iter().map(|step| step.members.len()).collect();
    assert!(sizes.contains(&1) && sizes.last() == Some(&2), "{sizes:?}");
}

#[test]
fn a_worker_behind_a_cable_that_is_cut_and_replugged_comes_back_with_its_tensors() {
    let mut site = Site::new(40, "external");
    let expected = site.scene.undisturbed(2, &[]);
    let running = site.begin(&[]);
    running.wait_for_steps(5);
    site.cluster.call(&["cut", "n2"]);
    wait_for("a loss", || (site.status()["state"] == "waiting").then_some(()));
    site.cluster.call(&["heal", "n2"]);
    let ended = running.end().with(0);
    assert!(ended.stderr.contains("rank 1 on n2 was lost"), "{}", ended.stderr);
    site.is_whole(40);
    assert_eq!(weights(&site.scene.run_folder()), expected);
}
