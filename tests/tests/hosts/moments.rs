//! A power-off and a cut cable at planned moments.

use std::time::SystemTime;

use tests::left;
use tests::moments::Moment;
use tests::recovery::weights;
use tests::running::wait_for;
use tests::trial::next_step;

use crate::site::{Site, assert_missed};

/// What is lost of a host.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Power,
    Cable,
}

/// A run of five steps, of whose hosts one has that loss at this moment for longer than the lease: it finishes with the
/// weights of a run to which nothing happens, bit for bit, every sample counts once, and nothing is left behind.
fn survives(loss: Loss, moment: Moment) {
    let mut site = Site::new(5, "external");
    let expected = site.scene.undisturbed(2, &[]);
    let (faults, rank) = (moment.faults(2, "wait"), moment.rank(2));
    let running = site.begin(&["--allow-faults", "--set", &faults, "--set", "checkpoint.every=1"]);
    let run = site.scene.run_folder();
    let struck = run.join("logs/fault-0.struck");
    wait_for("the planned moment", || struck.exists().then_some(()));
    let (host, since) = (format!("n{}", rank + 1), SystemTime::now());
    let let_go = || std::fs::write(run.join("logs/fault-0.go"), "").unwrap();
    match loss {
        Loss::Power => {
            site.cluster.call(&["kill", &host]);
            site.cluster.call(&["boot", &host]);
            site.worker(rank + 1);
        }
        Loss::Cable => {
            site.cluster.call(&["cut", &host]);
            let_go();
            wait_for("a loss", || (site.status()["state"] == "waiting").then_some(()));
            site.cluster.call(&["heal", &host]);
        }
    }
    let said = running.end().with(0).stderr;
    let what = format!("{loss:?} lost at {moment:?}");
    assert_missed(&said, rank + 1);
    site.is_whole(5);
    assert_eq!(weights(&run), expected, "{what}:\n{said}");
    println!("{what}: the next step was committed {:.2} s after it", next_step(&run, since).unwrap());
    site.ends();
    let processes = left::processes_of(site.scene.folder());
    assert!(processes.is_empty(), "{what}: {processes:#?}");
}

#[test]
fn a_host_that_loses_power_after_its_backward_pass_loses_the_run_nothing() {
    survives(Loss::Power, Moment::Backward);
}

#[test]
fn a_worker_whose_cable_is_cut_while_gradients_are_summed_loses_the_run_nothing() {
    survives(Loss::Cable, Moment::AllReduce);
}

/// Where a world has formed before and forms again, nobody starts the one that the plan kills.
#[cfg(feature = "cluster")]
#[test]
fn a_host_that_loses_power_at_any_moment_loses_the_run_nothing() {
    Moment::FIRST.iter().for_each(|moment| survives(Loss::Power, *moment));
}

#[cfg(feature = "cluster")]
#[test]
fn a_worker_whose_cable_is_cut_at_any_moment_loses_the_run_nothing() {
    Moment::FIRST.iter().for_each(|moment| survives(Loss::Cable, *moment));
}
