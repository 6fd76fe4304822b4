//! The engine driven by events: one file per event, and a seeded simulation.

mod applied;
mod checkpoint_written;
mod evaluated;
mod exited;
mod interrupted;
mod joining;
mod leaving;
mod losses;
mod publishing;
mod quarantine;
mod ready;
mod simulation;
mod term_lost;
mod tick;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::worker_message::Body as Report;
use proto::v1::{
    Applied, CheckpointWritten, Counts, Evaluated, Formed, Join, Left, RolloutsReady, Sample, SampleRollout,
    Sampling, StageReady, StepReady, StoreReady, TrainItem,
};

use super::*;

/// The `n`th incarnation of the first term.
pub(super) fn incarnation(n: u64) -> u64 {
    (1 << 32) + n
}

pub(super) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(super) fn stage(name: &str, steps: u64) -> StageSpec {
    StageSpec {
        name: name.into(),
        steps,
        evaluate_every: 0,
        checkpoint_every: 0,
        validation: false,
        test_before: false,
        test_after: false,
        max_consecutive_skips: 2,
        sharded: false,
    }
}

pub(super) fn spec(world: u32, stages: Vec<StageSpec>) -> Spec {
    Spec {
        run_id: "test".into(),
        version: "1".into(),
        term: 1,
        hosts: (0..world).map(|r| format!("host{r}")).collect(),
        stages,
        weights: "model".into(),
        keep: 2,
        lease: seconds(15),
        forming: seconds(60),
        progress: seconds(100),
        heartbeat: seconds(3),
        restart_grace: seconds(30),
        min_world: world,
        max_world: world,
        max_discards: 3,
        respawns: false,
        redundant: false,
        state: CarriedState::default(),
    }
}

pub(super) fn join(version: &str, rank: u32) -> Join {
    Join {
        version: version.into(),
        host: format!("host{rank}"),
        process: 100 + rank,
        device: "cpu".into(),
        ..Join::default()
    }
}

/// What a faultless worker answers.
pub(super) fn obey(order: &Order) -> Option<Report> {
    let rollouts = |samples: &[Sample]| {
        samples
            .iter()
            .map(|s| SampleRollout { sample_id: s.id.clone(), ..SampleRollout::default() })
            .collect()
    };
    Some(match order {
        Order::HostStore(_) => Report::StoreReady(StoreReady { address: "store:1".into() }),
        Order::FormEpoch(_) => Report::Formed(Formed::default()),
        Order::BeginStage(b) => {
            Report::StageReady(StageReady { stage: b.stage, digest: "start".into(), part: None })
        }
        Order::Rollout(r) => Report::RolloutsReady(RolloutsReady {
            step: r.step,
            attempt: r.attempt,
            samples: rollouts(&r.samples),
        }),
        Order::Update(u) => Report::StepReady(StepReady {
            step: u.step,
            attempt: u.attempt,
            loss: 0.5,
            grad_norm: 1.0,
            finite: true,
            metrics: [("tokens".to_owned(), 10.0)].into(),
        }),
        Order::Commit(c) => {
            Report::Applied(Applied { step: c.step, digest: format!("after {}", c.step), part: None })
        }
        Order::Evaluate(e) => Report::Evaluated(Evaluated { step: e.step, samples: rollouts(&e.samples) }),
        Order::WriteCheckpoint(w) => Report::CheckpointWritten(CheckpointWritten {
            step: w.step,
            digests: [("model.safetensors".to_owned(), "abc".to_owned())].into(),
        }),
        Order::Stop(_) => Report::Left(Left {}),
        _ => return None,
    })
}

/// The samples of a step: six of its own.
pub(super) fn ids(step: u64) -> Vec<String> {
    ('a'..='f').map(|letter| format!("{step}{letter}")).collect()
}

/// The samples of `choice`, shared out to `world`.
fn shared(ids: Vec<String>, choice: &Choice, world: &[Rank]) -> BTreeMap<Rank, Vec<Sample>> {
    let samples = ids.into_iter().filter(|id| choice.holds(id)).map(|id| Sample { id, ..Sample::default() });
    let mut shares: BTreeMap<Rank, Vec<Sample>> = world.iter().map(|r| (*r, Vec::new())).collect();
    for (i, sample) in samples.enumerate() {
        shares.entry(world[i % world.len()]).or_default().push(sample);
    }
    shares
}

fn update(step: u64, items: &BTreeMap<Rank, Vec<String>>) -> Plan {
    let item = |id: &String| TrainItem {
        sample: Some(Sample { id: id.clone(), ..Sample::default() }),
        target: None,
    };
    let samples: BTreeSet<&String> = items.values().flatten().collect();
    Plan::Update(UpdateWork {
        lr: 0.1,
        counts: Counts::default(),
        items: items.iter().map(|(rank, share)| (*rank, share.iter().map(item).collect())).collect(),
        samples: samples.into_iter().cloned().collect(),
        cursor: format!("cursor {step}"),
        metrics: [("reward".to_owned(), 1.5)].into(),
    })
}

/// What a faultless shell answers that has a step's rollouts, or needs none.
pub(super) fn updated_at_once(command: &Command) -> Option<Event> {
    let Command::Plan { step, attempt, world, choice, .. } = command else { return None };
    let share = |(rank, share): (Rank, Vec<Sample>)| (rank, share.into_iter().map(|s| s.id).collect());
    let items = shared(ids(*step), choice, world).into_iter().map(share).collect();
    Some(Event::Planned { step: *step, attempt: *attempt, plan: update(*step, &items) })
}

/// What a faultless shell answers; odd steps roll out first.
pub(super) fn carry_out(command: &Command) -> Option<Event> {
    Some(match command {
        Command::Plan { step, attempt, world, choice, .. } if step % 2 == 1 => Event::Planned {
            step: *step,
            attempt: *attempt,
            plan: Plan::Rollout(RolloutWork {
                samples: shared(ids(*step), choice, world),
                sampling: Sampling::default(),
            }),
        },
        Command::Plan { .. } => return updated_at_once(command),
        Command::Score { step, attempt, rollouts, .. } => {
            let id = |rollout: &SampleRollout| rollout.sample_id.clone();
            let items =
                rollouts.iter().map(|(rank, share)| (*rank, share.iter().map(id).collect())).collect();
            Event::Scored { step: *step, attempt: *attempt, plan: update(*step, &items) }
        }
        Command::PlanEvaluation { epoch, set, world, .. } => Event::EvaluationPlanned {
            epoch: *epoch,
            samples: shared((1..=3).map(|n| format!("{set}{n}")).collect(), &Choice::default(), world),
            sampling: Sampling::default(),
        },
        Command::ScoreEvaluation { epoch, .. } => {
            Event::EvaluationScored { epoch: *epoch, metrics: [("srcc".to_owned(), 0.5)].into() }
        }
        Command::StageCheckpoint { name, epoch } => {
            Event::CheckpointStaged { epoch: *epoch, folder: PathBuf::from(format!("{name}.partial")) }
        }
        Command::PublishCheckpoint { about, .. } => Event::CheckpointPublished(about.clone()),
        Command::OpenCheckpoint(name) => {
            Event::CheckpointOpened { name: name.clone(), folder: PathBuf::from(name.to_string()) }
        }
        _ => return None,
    })
}

/// An engine with faultless workers around it, which a test disturbs.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) now: Duration,
    pub(super) world: u32,
    incarnations: BTreeMap<Rank, u64>,
    queue: VecDeque<Event>,
    /// Everything that the engine ever wanted.
    pub(super) done: Vec<Command>,
}

impl Rig {
    pub(super) fn new(world: u32, stages: Vec<StageSpec>) -> Self {
        Self::with(spec(world, stages))
    }

    pub(super) fn with(spec: Spec) -> Self {
        let world = spec.ranks();
        let engine = Engine::new(spec, Duration::ZERO);
        Self {
            engine,
            now: Duration::ZERO,
            world,
            incarnations: BTreeMap::new(),
            queue: VecDeque::new(),
            done: vec![],
        }
    }

    /// Hands an event in; nobody answers what comes out.
    pub(super) fn event(&mut self, event: Event) -> Vec<Command> {
        let out = self.engine.handle(self.now, event);
        for command in &out {
            if let Command::Admit { rank, incarnation, .. } = command {
                self.incarnations.insert(*rank, *incarnation);
            }
        }
        self.done.extend(out.iter().cloned());
        out
    }

    pub(super) fn join(&mut self, rank: Rank) -> Vec<Command> {
        self.event(Event::Joining { stream: u64::from(rank), rank, join: join("1", rank) })
    }

    pub(super) fn sender(&self, rank: Rank) -> Sender {
        Sender { rank, incarnation: self.incarnations[&rank], epoch: self.engine.epoch(), term: 1 }
    }

    pub(super) fn message(&self, rank: Rank, body: Report) -> Event {
        Event::Message { sender: self.sender(rank), body }
    }

    pub(super) fn say(&mut self, rank: Rank, body: Report) -> Vec<Command> {
        self.event(self.message(rank, body))
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<Command> {
        let mut out = Vec::new();
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(500)).min(end);
            out.extend(self.event(Event::Tick));
        }
        out
    }

    /// Time passes, and `ranks` are heard every second.
    pub(super) fn pass_heard(&mut self, time: u64, ranks: &[Rank]) -> Vec<Command> {
        let mut out = Vec::new();
        for _ in 0..time {
            out.extend(self.pass(seconds(1)));
            for rank in ranks {
                let beat = proto::v1::Heartbeat { phase: "w".into(), progress: 1 };
                out.extend(self.event(self.message(*rank, Report::Heartbeat(beat))));
            }
        }
        out
    }

    /// What faultless workers and a faultless shell answer.
    pub(super) fn answers(&self, out: &[Command]) -> Vec<Event> {
        let answer = |command: &Command| match command {
            Command::Send { rank, body, .. } => Some(self.message(*rank, obey(body)?)),
            other => carry_out(other),
        };
        out.iter().filter_map(answer).collect()
    }

    /// Everybody joins, and everything goes well until `halt` says that the test takes over; the command that
    /// it stops at, and all of the same list, stay unanswered.
    pub(super) fn run_until(&mut self, halt: impl Fn(&Command) -> bool) {
        if self.incarnations.is_empty() {
            for rank in 0..self.world {
                let out = self.join(rank);
                let answers = self.answers(&out);
                self.queue.extend(answers);
            }
        }
        while let Some(event) = self.queue.pop_front() {
            let out = self.event(event);
            if out.iter().any(&halt) {
                return;
            }
            let answers = self.answers(&out);
            self.queue.extend(answers);
        }
    }

    /// [`Self::run_until`], answering first what was left unanswered.
    pub(super) fn resume_until(&mut self, unanswered: &[Command], halt: impl Fn(&Command) -> bool) {
        let answers = self.answers(unanswered);
        self.queue.extend(answers);
        self.run_until(halt);
    }

    /// Why the newest loss happened, as the journal has it.
    pub(super) fn loss(&self) -> String {
        let reason = |record: &&Record| match record {
            Record::Discarded(discard) => Some(discard.reason.clone()),
            _ => None,
        };
        records(&self.done).iter().rev().find_map(reason).expect("a step was discarded")
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.done.iter().find_map(|c| match c {
            Command::End(outcome) => Some(outcome.clone()),
            _ => None,
        })
    }

    pub(super) fn failure(&self) -> (String, u8) {
        match self.outcome() {
            Some(Outcome::Failed { reason, exit_code }) => (reason, exit_code),
            other => panic!("expected a failed run, got {other:?}"),
        }
    }
}

pub(super) fn order(command: &Command) -> Option<&Order> {
    match command {
        Command::Send { body, .. } => Some(body),
        _ => None,
    }
}

/// The records in the order that they were journaled.
pub(super) fn records(done: &[Command]) -> Vec<&Record> {
    done.iter().filter_map(|c| if let Command::Journal(r) = c { Some(r) } else { None }).collect()
}

#[test]
fn a_run_without_faults_does_everything_on_its_agenda_in_order() {
    let explore = StageSpec {
        evaluate_every: 2,
        checkpoint_every: 1,
        validation: true,
        test_before: true,
        ..stage("explore", 3)
    };
    let stabilise = StageSpec { validation: true, test_after: true, ..stage("stabilise", 1) };
    let mut rig = Rig::new(2, vec![explore, stabilise]);
    rig.run_until(|_| false);
    let told: Vec<String> = records(&rig.done)
        .into_iter()
        .map(|record| match record {
            Record::Epoch(e) => format!("epoch {}", e.epoch),
            Record::Stage(s) => s.name.clone(),
            Record::Step(s) => format!("step {}", s.step),
            Record::Evaluation(e) => format!("{} {}", e.set, e.moment),
            Record::Checkpoint(c) => c.name.to_string(),
            Record::Ended { outcome } => outcome.clone(),
            Record::Discarded(d) => format!("discarded {}", d.step),
            Record::Suspected(s) => format!("suspects {}", s.samples.len()),
            Record::Quarantined(q) => format!("quarantined {}", q.sample),
            Record::Restored(r) => format!("restored {} to {}", r.from, r.to),
        })
        .collect();
    let expected = [
        "epoch 1",
        "explore",
        "validation before",
        "test before",
        "step 1",
        "explore-step-1",
        "step 2",
        "validation during",
        "explore-step-2",
        "step 3",
        "explore-step-3",
        "validation after",
        "stabilise",
        "validation before",
        "step 4",
        "stabilise-step-4",
        "validation after",
        "test after",
        "finished",
    ];
    assert_eq!(told, expected);
    assert_eq!(rig.outcome(), Some(Outcome::Finished));
}
