//! Seeded runs with deaths, duplicates, delays and reordering across workers; every command is checked.

use std::collections::BTreeSet;

use super::*;

const SEEDS: u64 = 1_000;

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
}

/// How a planned death is noticed.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// The launcher sees the process end.
    Seen,
    /// The stream breaks.
    Broken,
    /// Nothing but silence.
    Silent,
}

struct Simulation {
    draws: Draws,
    rig: Rig,
    /// (due, tie-breaker) to what happens then.
    due: BTreeMap<(Duration, u64), Event>,
    count: u64,
    dead: BTreeSet<Rank>,
    /// Streams deliver in order: nothing of a rank arrives before this.
    arrived: BTreeMap<Rank, Duration>,
    committed: u64,
    samples: BTreeSet<String>,
    epochs: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut draws = Draws(seed);
        let world = 1 + draws.below(4) as u32;
        let stages = (0..1 + draws.below(2))
            .map(|i| StageSpec {
                evaluate_every: draws.below(3),
                checkpoint_every: draws.below(3),
                validation: draws.one_in(2),
                test_before: draws.one_in(2),
                test_after: draws.one_in(2),
                ..stage(&format!("s{i}"), draws.below(5))
            })
            .collect();
        Self {
            draws,
            rig: Rig::new(world, stages),
            due: BTreeMap::new(),
            count: 0,
            dead: BTreeSet::new(),
            arrived: BTreeMap::new(),
            committed: 0,
            samples: BTreeSet::new(),
            epochs: 0,
        }
    }

    fn put(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.due.insert((at, self.count), event);
    }

    fn put_from(&mut self, rank: Rank, event: &Event) {
        let delay = Duration::from_millis(1 + self.draws.below(400));
        let at = (self.rig.now + delay).max(self.arrived.get(&rank).copied().unwrap_or_default());
        self.arrived.insert(rank, at);
        self.put(at, event.clone());
        if self.draws.one_in(5) {
            let late = Duration::from_millis(self.draws.below(3_000));
            self.put(at + late, event.clone());
        }
    }

    /// Runs to its end; the outcome.
    fn run(&mut self, death: Option<(Duration, Rank, Death)>) -> Outcome {
        for rank in 0..self.rig.world {
            let at = Duration::from_millis(self.draws.below(5_000));
            self.put(at, Event::Joining { stream: u64::from(rank), rank, join: join("1", rank) });
        }
        self.put(Duration::ZERO, Event::Tick);
        let mut death = death;
        while let Some(((now, _), event)) = self.due.pop_first() {
            assert!(now < seconds(600), "LV-1: the run does not end, it is {}", self.rig.engine.verdict(now));
            self.rig.now = now;
            if let Some((_, rank, how)) = death.take_if(|(at, ..)| *at <= now) {
                self.die(rank, how);
            }
            if event == Event::Tick {
                self.tick();
            }
            let out = self.rig.event(event);
            self.check(&out);
            if let Some(outcome) = self.rig.outcome() {
                return outcome;
            }
            for command in &out {
                self.react(command);
            }
        }
        panic!("LV-1: nothing happens any more");
    }

    fn tick(&mut self) {
        self.put(self.rig.now + Duration::from_millis(500), Event::Tick);
        for rank in 0..self.rig.world {
            if self.rig.incarnations.contains_key(&rank) && !self.dead.contains(&rank) {
                let beat = proto::v1::Heartbeat { phase: "work".into(), progress: self.count };
                self.put_from(rank, &self.rig.message(rank, Report::Heartbeat(beat)));
            }
        }
    }

    fn die(&mut self, rank: Rank, how: Death) {
        self.dead.insert(rank);
        let now = self.rig.now;
        let soon = Duration::from_millis(self.draws.below(900));
        match how {
            Death::Seen => {
                self.put(now + soon, Event::Exited { rank, exit: Exit::Signal(9), last_lines: vec![] });
            }
            Death::Broken => {
                if let Some(incarnation) = self.rig.incarnations.get(&rank).copied() {
                    self.put(now + soon, Event::Disconnected { rank, incarnation, reason: "reset".into() });
                }
            }
            Death::Silent => {}
        }
    }

    fn react(&mut self, command: &Command) {
        match command {
            Command::Send { rank, body, .. } if !self.dead.contains(rank) => {
                if !self.dead.is_empty() && matches!(**body, Order::Update(_)) {
                    let broken = proto::v1::CollectiveFailed { reason: "peer".into() };
                    self.put_from(*rank, &self.rig.message(*rank, Report::CollectiveFailed(broken)));
                } else if let Some(report) = obey(body) {
                    self.put_from(*rank, &self.rig.message(*rank, report));
                }
            }
            Command::Send { .. } => {}
            other => {
                if let Some(event) = carry_out(other) {
                    let delay = Duration::from_millis(self.draws.below(50));
                    self.put(self.rig.now + delay, event);
                }
            }
        }
    }

    fn check(&mut self, out: &[Command]) {
        for command in out {
            match command {
                Command::Journal(Record::Epoch(_)) => {
                    self.epochs += 1;
                    assert_eq!(self.epochs, 1, "EP-1: an epoch began while another was active");
                }
                Command::Journal(Record::Step(step)) => {
                    let world: Vec<Rank> = (0..self.rig.world).collect();
                    assert_eq!(step.members, world, "EP-2: a commit names others than its epoch's members");
                    assert_eq!(step.step, self.committed + 1, "ST-1: committed steps go up by one");
                    self.committed = step.step;
                    for id in &step.samples {
                        assert!(self.samples.insert(id.clone()), "ST-2: sample {id} was committed twice");
                    }
                }
                Command::Send { body, epoch, .. } => {
                    assert!(*epoch <= self.epochs, "EP-1: a message of an epoch that is not on disk");
                    if let Order::Commit(commit) = &**body {
                        assert_eq!(commit.step, self.committed, "a commit left before it was on disk");
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn without_deaths_every_run_finishes_whatever_is_late_or_comes_twice() {
    for seed in 0..SEEDS {
        let mut simulation = Simulation::new(seed);
        assert_eq!(simulation.run(None), Outcome::Finished, "LV-1, seed {seed}");
    }
}

#[test]
fn with_a_death_every_run_ends_and_a_failed_one_names_the_dead() {
    let (mut failed, mut finished) = (0, 0);
    for seed in 0..SEEDS {
        let mut draws = Draws(seed ^ 0xdead);
        let mut simulation = Simulation::new(seed);
        let rank = draws.below(u64::from(simulation.rig.world)) as Rank;
        let at = Duration::from_millis(draws.below(12_000));
        let how = [Death::Seen, Death::Broken, Death::Silent][draws.below(3) as usize];
        match simulation.run(Some((at, rank, how))) {
            Outcome::Failed { reason, .. } => {
                failed += 1;
                let named = reason.contains(&format!("rank {rank} "));
                let blamed_peer = reason.contains("failed collective");
                assert!(named || blamed_peer, "seed {seed}, {how:?} of rank {rank} at {at:?}: {reason}");
            }
            Outcome::Finished => finished += 1,
            Outcome::Interrupted => panic!("seed {seed}: nobody interrupted it"),
        }
    }
    assert!(failed > SEEDS / 2 && finished > 0, "{failed} failed, {finished} finished");
}

#[test]
fn an_interruption_at_any_moment_ends_the_run_well_with_its_steps_on_disk() {
    for seed in 0..SEEDS {
        let at = Duration::from_millis(Draws(seed ^ 0xbeef).below(12_000));
        let mut simulation = Simulation::new(seed);
        simulation.put(at, Event::Interrupted);
        let outcome = simulation.run(None);
        assert!(matches!(outcome, Outcome::Interrupted | Outcome::Finished), "seed {seed}: {outcome:?}");
        let newest = records(&simulation.rig.done)
            .iter()
            .filter_map(|r| if let Record::Checkpoint(c) = r { Some(c.step) } else { None })
            .max();
        assert_eq!(newest.unwrap_or(0), simulation.committed, "seed {seed} at {at:?}");
    }
}
