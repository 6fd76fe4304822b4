//! The seeds.

use super::*;

/// Seeds of the whole simulation.
const SEEDS: u64 = 10_000;
/// Within so many a defect is found.
const SEEDS_A_DEFECT: u64 = 100;

/// One seed alone: `SIMULATION_SEED=N`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SIMULATION_SEED").ok().and_then(|text| text.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

#[test]
fn ten_thousand_runs_with_faults_break_no_invariant_and_all_finish() {
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    let mut passed: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let all = seeds(SEEDS);
    let single = all.clone().count() == 1;
    for seed in all {
        let mut world = World::new(seed, None);
        let result = world.run();
        if single || result.is_err() {
            for line in &world.trace {
                eprintln!("{line}");
            }
        }
        if let Err(violated) = result {
            panic!("seed {seed}: {violated}\nSIMULATION_SEED={seed} replays it");
        }
        for (what, times) in world.hits {
            *hits.entry(what).or_default() += times;
        }
        for (pair, times) in world.passed {
            *passed.entry(pair).or_default() += times;
        }
    }
    if single {
        return;
    }
    for (what, times) in &hits {
        println!("{times:8} {what}");
    }
    for ((from, to), times) in &passed {
        println!("{times:8} {from} → {to}");
    }
    let expected = [
        "state from a member",
        "state from mirrors",
        "state from a checkpoint",
        "a run that begins again",
        "a discarded step",
        "a first strike",
        "a search that goes on",
        "a sample in quarantine",
        "a worker dies on a sample",
        "a worker dies on a sample, and nobody sees its exit",
        "a worker fails on a sample",
        "a worker is started again by its launcher",
        "a coordinator learns that it was replaced, or cannot know",
        "fault Kill",
        "fault PowerOff",
        "fault Gone",
        "fault Freeze",
        "fault Cut",
        "fault Split",
        "fault KillCoordinator",
        "fault CutCoordinator",
        "fault Leave",
        "fault Pause",
        "fault Interrupt",
        "a run that stops as asked",
        "a checkpoint that is broken",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|what| !hits.contains_key(*what)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
    transitions::check(&passed);
}

/// The seed at which a defect is found, and as what.
fn found(defect: Defect) -> Option<(u64, String)> {
    (0..SEEDS_A_DEFECT).find_map(|seed| World::new(seed, Some(defect)).run().err().map(|e| (seed, e)))
}

/// Every defect, and the invariants that it may be told by.
const DEFECTS: [(Defect, &[&str]); 11] = [
    (Defect::EpochUsedTwice, &["EP-1"]),
    (Defect::CommitWithoutOne, &["EP-2"]),
    (Defect::CommitBeforeJournal, &["CO-1"]),
    (Defect::RestoreUnsaid, &["ST-1"]),
    (Defect::CommittedRepeated, &["ST-2"]),
    (Defect::ProbeCommitted, &["ST-2"]),
    (Defect::QuarantinedUntried, &["QU-1"]),
    (Defect::UnequalGoOn, &["RC-1"]),
    (Defect::AnySource, &["RC-2"]),
    (Defect::FenceIgnored, &["TM-1"]),
    (Defect::WaitForever, &["LV-1"]),
];

#[test]
fn every_deliberate_defect_is_found_within_a_hundred_seeds_by_its_invariant() {
    for (defect, invariants) in DEFECTS {
        let (seed, violated) = found(defect).unwrap_or_else(|| panic!("{defect:?} was not found"));
        let named = invariants.iter().any(|invariant| violated.starts_with(invariant));
        assert!(named, "{defect:?} at seed {seed}: {violated}, expected one of {invariants:?}");
    }
}
