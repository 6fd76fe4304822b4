//! Seeded runs with faults: coordinators that crash between any two commands or are cut off and replaced, workers that
//! are killed, powered off, frozen or cut off, messages that are late or come twice. No sockets, no tensors, a clock of
//! its own. Every command is checked against the engine's invariants; a seed that breaks one prints what happened, and
//! `SIMULATION_SEED=N` replays exactly that.

mod check;
mod coordinators;
mod faults;
mod runs;
mod transitions;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::*;
use check::Journals;
use coordinators::Coordinator;
use workers::Worker;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What happens at a moment.
#[derive(Clone, Debug)]
enum What {
    /// Every coordinator's clock.
    Tick,
    /// Something reaches a coordinator.
    Event(usize, Event),
    /// An order reaches a worker by the stream of an incarnation.
    Order { rank: Rank, incarnation: u64, term: u64, epoch: u64, body: Box<Order> },
    /// A worker's stream was closed by the coordinator.
    Closed { rank: Rank, incarnation: u64 },
    /// A worker has done what it was doing.
    Done { rank: Rank, process: u32, job: u64 },
    /// A worker looks for a coordinator.
    Seek { rank: Rank, process: u32 },
    /// A worker's process begins.
    Boot(Rank),
    /// A fault strikes.
    Fault(faults::Fault),
    /// A coordinator is started.
    Start,
}

/// A run in its world.
struct World {
    draws: Draws,
    now: Duration,
    queue: BTreeMap<(Duration, u64), What>,
    count: u64,
    spec: Spec,
    defect: Option<Defect>,
    coordinators: Vec<Coordinator>,
    journals: Journals,
    workers: BTreeMap<Rank, Worker>,
    /// Steps whose rollouts are on disk.
    scored: BTreeSet<u64>,
    /// The sample on which workers die, and whether in updates alone.
    poison: Option<(String, bool)>,
    /// Pairs of workers that cannot hear each other.
    split: BTreeSet<(Rank, Rank)>,
    /// The rank that no process has any more.
    gone: Option<Rank>,
    processes: u32,
    trace: VecDeque<String>,
    /// How often what happened.
    hits: BTreeMap<String, u64>,
    /// How often which state followed which.
    passed: BTreeMap<(&'static str, &'static str), u64>,
    /// Violations found.
    violated: Option<String>,
}

/// Lines that a failing seed prints.
const TRACE: usize = 150;
/// From here on there are no more faults.
const CALM: Duration = Duration::from_secs(60);
/// A run that is not over long after the last fault never will be.
const END: Duration = Duration::from_secs(1_200);

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        // Poison and mirrors have draws of their own: a seed's faults do not depend on them.
        let (mut draws, mut apart) = (Draws(seed), Draws(!seed));
        let ranks = 1 + draws.below(4) as u32;
        let sharded = draws.one_in(4);
        let stages = (0..1 + draws.below(2))
            .map(|i| StageSpec {
                evaluate_every: draws.below(3),
                checkpoint_every: draws.below(4),
                validation: draws.one_in(2),
                test_before: draws.one_in(3),
                test_after: draws.one_in(3),
                sharded,
                ..stage(&format!("s{i}"), 1 + draws.below(9))
            })
            .collect();
        let min_world = 1 + draws.below(u64::from(ranks)) as u32;
        // Some stand by.
        let max_world = if apart.one_in(5) { min_world } else { ranks };
        let spec = Spec {
            min_world,
            restart_grace: seconds(3 + draws.below(20)),
            lease: seconds(4),
            heartbeat: Duration::from_millis(800),
            progress: seconds(12),
            forming: seconds(8),
            max_discards: 1_000,
            respawns: draws.one_in(2),
            redundant: apart.one_in(2),
            max_world,
            ..spec(ranks, stages)
        };
        let steps: u64 = spec.stages.iter().map(|stage| stage.steps).sum();
        let samples = ids(1 + apart.below(steps));
        let which = apart.below(samples.len() as u64) as usize;
        let poison = (samples[which].clone(), apart.one_in(2));
        let poison = Some(poison).filter(|_| apart.one_in(3));
        let mut world = Self {
            draws,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            count: 0,
            spec,
            defect,
            coordinators: Vec::new(),
            journals: Journals::default(),
            workers: BTreeMap::new(),
            scored: BTreeSet::new(),
            poison,
            split: BTreeSet::new(),
            gone: None,
            processes: 100,
            trace: VecDeque::new(),
            hits: BTreeMap::new(),
            passed: BTreeMap::new(),
            violated: None,
        };
        world.put(Duration::ZERO, What::Start);
        world.put(Duration::ZERO, What::Tick);
        if !world.spec.respawns {
            for rank in 0..ranks {
                let at = world.draws.millis(0, 3_000);
                world.put(at, What::Boot(rank));
            }
        }
        world.plan_faults();
        world
    }

    fn put(&mut self, after: Duration, what: What) {
        self.count += 1;
        self.queue.insert((self.now + after, self.count), what);
    }

    fn put_at(&mut self, at: Duration, what: What) {
        self.count += 1;
        self.queue.insert((at.max(self.now), self.count), what);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        // Of a seed that is replayed everything is told.
        if self.trace.len() == TRACE && std::env::var_os("SIMULATION_SEED").is_none() {
            self.trace.pop_front();
        }
        let at = self.now.as_secs_f64();
        let line = line();
        self.trace.push_back(format!("{at:9.3} {line}"));
    }

    fn hit(&mut self, what: impl Into<String>) {
        *self.hits.entry(what.into()).or_default() += 1;
    }

    fn violate(&mut self, invariant: &str, what: impl FnOnce() -> String) {
        if self.violated.is_none() {
            let text = format!("{invariant}: {}", what());
            self.say(|| format!("VIOLATED {text}"));
            self.violated = Some(text);
        }
    }

    /// Runs to the end; what was violated.
    fn run(&mut self) -> Result<(), String> {
        while let Some(((now, _), what)) = self.queue.pop_first() {
            self.now = now;
            if now > END {
                let at = self.coordinators.last().map(|c| c.engine.verdict(now - c.started).to_string());
                let workers: Vec<String> = self.workers.values().map(|w| format!("{w:?}")).collect();
                workers.into_iter().for_each(|worker| self.say(|| worker));
                self.violate("LV-1", || format!("the run does not end; it is {at:?}"));
            }
            self.happen(what);
            if let Some(violated) = &self.violated {
                return Err(violated.clone());
            }
            if self.coordinators.iter().any(|c| c.outcome == Some(Outcome::Finished)) {
                self.check_end();
                return self.violated.clone().map_or(Ok(()), Err);
            }
        }
        Err("LV-1: nothing happens any more".into())
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick => self.tick(),
            What::Event(coordinator, event) => self.event(coordinator, event),
            What::Order { rank, incarnation, term, epoch, body } => {
                self.order(rank, incarnation, term, epoch, *body);
            }
            What::Closed { rank, incarnation } => self.closed(rank, incarnation),
            What::Done { rank, process, job } => self.done(rank, process, job),
            What::Seek { rank, process } => self.seek(rank, process),
            What::Boot(rank) => self.boot(rank),
            What::Fault(fault) => self.strike(fault),
            What::Start => self.start(),
        }
    }
}

/// Order and report names for traces.
fn named(body: &Order) -> String {
    let text = format!("{body:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}
