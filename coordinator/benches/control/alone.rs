//! The engine without a wire: events in, commands out, every order answered at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use coordinator::engine::{
    CarriedState, Command, Engine, Event, Plan, Rank, Sender, Spec, StageSpec, UpdateWork,
};
use proto::v1::coordinator_message::Body as Order;
use proto::v1::worker_message::Body as Report;
use proto::v1::{
    Applied, Counts, Formed, Heartbeat, Held, Join, Restored, StageReady, StepReady, StoreReady,
};

use crate::ground::host_of;

/// Above the rows.
pub(crate) const HEAD: &str = "\
the engine alone, one thread's time
members   all join and form  a step of them all  a heartbeat  a tick of the clock  death to next epoch";

/// Steps that are timed.
const STEPS: u64 = 5;

/// Of one size.
pub(crate) struct Alone {
    members: u32,
    formed: Duration,
    step: Duration,
    heartbeat: Duration,
    tick: Duration,
    death: Duration,
}

pub(crate) fn measure(members: u32) -> Alone {
    let mut rig = Rig::new(members);
    let formed = rig.until(1, 0, |rig| (0..members).for_each(|rank| rig.join(rank)));
    rig.until(1, 1, |_| {});
    let step = rig.until(1, 1 + STEPS, |_| {}) / STEPS as u32;
    let start = Instant::now();
    for rank in 0..members {
        rig.say(rank, Report::Heartbeat(Heartbeat { phase: "light".into(), progress: 1 }));
        rig.handle_next();
    }
    let heartbeat = start.elapsed() / members;
    let start = Instant::now();
    rig.events.push_front(Event::Tick);
    rig.handle_next();
    let tick = start.elapsed();
    let lost = members / 2;
    let step_then = rig.step;
    let death = rig.until(2, step_then, |rig| {
        let incarnation = rig.incarnations[&lost];
        rig.events.push_front(Event::Disconnected { rank: lost, incarnation, reason: "closed".into() });
        rig.handle_next();
        // The moment in which a better sign might come.
        rig.now += Duration::from_secs(1);
        rig.events.push_back(Event::Tick);
        rig.join(lost);
    });
    Alone { members, formed, step, heartbeat, tick, death }
}

struct Rig {
    engine: Engine,
    now: Duration,
    events: VecDeque<Event>,
    incarnations: BTreeMap<Rank, u64>,
    held: BTreeMap<Rank, Held>,
    epoch: u64,
    step: u64,
}

impl Rig {
    fn new(members: u32) -> Self {
        let spec = Spec {
            run_id: "alone".into(),
            version: "1".into(),
            term: 1,
            hosts: (0..members).map(host_of).collect(),
            stages: vec![StageSpec {
                name: "explore".into(),
                steps: 1_000_000,
                evaluate_every: 0,
                checkpoint_every: 0,
                validation: false,
                test_before: false,
                test_after: false,
                max_consecutive_skips: 2,
                sharded: false,
            }],
            weights: "model".into(),
            keep: 1,
            lease: Duration::from_secs(15),
            forming: Duration::from_secs(60),
            progress: Duration::from_secs(100),
            heartbeat: Duration::from_secs(3),
            restart_grace: Duration::from_secs(30),
            min_world: members,
            max_world: members,
            max_discards: 3,
            respawns: false,
            redundant: false,
            state: CarriedState::default(),
        };
        Self {
            engine: Engine::new(spec, Duration::ZERO),
            now: Duration::ZERO,
            events: VecDeque::new(),
            incarnations: BTreeMap::new(),
            held: BTreeMap::new(),
            epoch: 0,
            step: 0,
        }
    }

    /// The time from `begin` until every member has formed `epoch` and `step` is committed there.
    fn until(&mut self, epoch: u64, step: u64, begin: impl FnOnce(&mut Self)) -> Duration {
        let start = Instant::now();
        begin(self);
        while self.epoch < epoch || self.step < step {
            self.handle_next();
        }
        start.elapsed()
    }

    fn join(&mut self, rank: Rank) {
        let (version, host) = ("1".into(), host_of(rank));
        let join = Join { version, host, process: rank, device: "cpu".into(), ..Join::default() };
        self.events.push_back(Event::Joining { stream: rank.into(), rank, join });
    }

    fn say(&mut self, rank: Rank, body: Report) {
        let incarnation = self.incarnations[&rank];
        let sender = Sender { rank, incarnation, epoch: self.engine.epoch(), term: 1 };
        self.events.push_front(Event::Message { sender, body });
    }

    /// Handles the first event; what its commands are answered with stands behind all others.
    fn handle_next(&mut self) {
        let event = self.events.pop_front();
        let event = event.unwrap_or_else(|| panic!("nothing to wait for: {}", self.engine.verdict(self.now)));
        for command in self.engine.handle(self.now, event) {
            let answer = self.answer(command);
            self.events.extend(answer);
        }
    }

    fn answer(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Admit { rank, incarnation, .. } => {
                self.incarnations.insert(rank, incarnation);
                None
            }
            Command::Plan { stage: 0, step, attempt, .. } => {
                let plan = Plan::Update(UpdateWork {
                    lr: 1e-3,
                    counts: Counts::default(),
                    items: BTreeMap::new(),
                    samples: vec![step.to_string()],
                    cursor: step.to_string(),
                    metrics: BTreeMap::new(),
                });
                Some(Event::Planned { step, attempt, plan })
            }
            Command::Send { rank, incarnation, epoch, body } => {
                let body = self.obey(rank, epoch, *body)?;
                Some(Event::Message { sender: Sender { rank, incarnation, epoch, term: 1 }, body })
            }
            _ => None,
        }
    }

    fn obey(&mut self, rank: Rank, epoch: u64, order: Order) -> Option<Report> {
        Some(match order {
            Order::HostStore(_) => Report::StoreReady(StoreReady { address: "127.0.0.1:1".into() }),
            Order::FormEpoch(_) => {
                self.epoch = epoch;
                Report::Formed(Formed { held: self.held.get(&rank).copied(), mirrored: false })
            }
            Order::BeginStage(begin) => {
                self.held.insert(rank, Held { stage: begin.stage, ..Held::default() });
                Report::StageReady(StageReady { stage: begin.stage, digest: "0".into(), part: None })
            }
            Order::Restore(restore) => {
                let (stage, step, attempt) = (restore.stage, restore.step, restore.attempt);
                self.held.insert(rank, Held { stage, step, prepared: None, attempt });
                Report::Restored(Restored { stage, step, digest: step.to_string(), part: None, sent: 0 })
            }
            Order::Update(update) => Report::StepReady(StepReady {
                step: update.step,
                attempt: update.attempt,
                loss: 0.5,
                grad_norm: 1.0,
                finite: true,
                metrics: [("tokens".to_owned(), 4.0)].into(),
            }),
            Order::Commit(commit) => {
                self.step = commit.step;
                let (step, attempt) = (commit.step, commit.attempt);
                self.held.insert(rank, Held { stage: 0, step, prepared: None, attempt });
                Report::Applied(Applied { step: commit.step, digest: commit.step.to_string(), part: None })
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        write!(
            f,
            "{:7} {:>20} {:>19} {:>9.2} us {:>20} {:>20}",
            self.members,
            ms(self.formed),
            ms(self.step),
            self.heartbeat.as_secs_f64() * 1e6,
            ms(self.tick),
            ms(self.death)
        )
    }
}
