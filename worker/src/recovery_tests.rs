//! The tensor thread through losses: real tensors and real collectives, orders as the session hands them over.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use proto::v1::coordinator_message::Body as Order;
use proto::v1::restore::Source;
use proto::v1::train_item::Target;
use proto::v1::worker_message::Body as Report;
use proto::v1::{
    AbortCollectives, Applied, BeginStage, Commit, Completion, Counts, Discard, FormEpoch, Held, HostStore,
    PolicyTarget, Prepared, Restore, Restored, Sample, TrainItem, Update, WriteCheckpoint,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::bench::Shared;
use crate::control::Control;
use crate::progress::Progress;
use crate::session::{Identity, Stamp};
use crate::work::{self, Assignment, Task};

/// Well under a second, on a busy machine.
const FAST: Duration = Duration::from_millis(900);

/// A tensor thread and what its session would have.
struct Rank {
    number: u32,
    epoch: u64,
    control: Control,
    progress: Progress,
    tasks: Sender<Task>,
    reports: UnboundedReceiver<(Stamp, Report)>,
}

impl Rank {
    /// One of a run in `output`, which trains a copy of the quickstart's model.
    fn start(number: u32, output: &Path) -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart/checkpoint");
        let recipe = format!(
            "run: {{ name: test, output: {} }}\nmodel: {{ path: {}, dtype: float32 }}\nsteps: 9\n\
             optimizer: {{ lr: 1.0e-3, schedule: constant }}\n",
            output.display(),
            model.display()
        );
        let run = settings::parse_run("test", &recipe, &[]).expect("a recipe");
        let (control, progress) = (Control::default(), Progress::default());
        let (tasks, work_tasks) = channel();
        let (work_reports, reports) = unbounded_channel();
        let identity = Identity {
            rank: number,
            device: "cpu".into(),
            address: "127.0.0.1".into(),
            threads: 1,
            host: "here".into(),
        };
        let assignment = Assignment {
            identity,
            device: tch::Device::Cpu,
            run,
            run_id: "test".into(),
            shared: Shared { progress: progress.clone(), control: control.clone() },
            tasks: work_tasks,
            reports: work_reports,
        };
        thread::spawn(move || work::run(assignment));
        Self { number, epoch: 0, control, progress, tasks, reports }
    }

    fn order(&self, order: Order) {
        if matches!(order, Order::AbortCollectives(_)) {
            self.control.abort();
        }
        let stamp = Stamp { rank: self.number, incarnation: 5, epoch: self.epoch, term: 2, stream: 1 };
        let task = Task::Order { number: self.control.number(), stamp, order: Box::new(order) };
        self.tasks.send(task).expect("the tensor thread lives");
    }

    /// Returns when the tensor thread has come to `phase`.
    fn comes_to(&self, phase: &str) {
        while self.progress.read().0 != phase {
            thread::yield_now();
        }
    }

    fn report(&mut self) -> Report {
        self.reports.blocking_recv().expect("the tensor thread lives").1
    }

    fn ask(&mut self, order: Order) -> Report {
        self.order(order);
        self.report()
    }

    /// Forms an epoch alone, and says what it then tells to hold.
    fn form_alone(&mut self, epoch: u64) -> Option<Held> {
        form(epoch, &mut [self], 0).remove(0)
    }

    fn commit(&mut self, step: u64) -> Applied {
        match self.ask(Order::Commit(Commit { step, skip: false, attempt: 1 })) {
            Report::Applied(applied) => applied,
            other => panic!("{other:?}"),
        }
    }

    fn work_fails(&mut self, order: Order) -> String {
        match self.ask(order) {
            Report::WorkFailed(failed) => failed.reason,
            other => panic!("{other:?}"),
        }
    }

    fn collective_failed(&mut self) {
        let report = self.report();
        assert!(matches!(report, Report::CollectiveFailed(_)), "{report:?}");
    }
}

/// Forms an epoch whose store the rank at `host` has; what each then tells to hold.
fn form(epoch: u64, ranks: &mut [&mut Rank], host: usize) -> Vec<Option<Held>> {
    let world_size = ranks.len() as u32;
    let Report::StoreReady(ready) = ranks[host].ask(Order::HostStore(HostStore {})) else {
        panic!("no store")
    };
    for (group_rank, rank) in (0..).zip(ranks.iter_mut()) {
        rank.epoch = epoch;
        let store_address = ready.address.clone();
        let nodes = vec![0; world_size as usize];
        rank.order(Order::FormEpoch(FormEpoch {
            world_size,
            group_rank,
            store_address,
            timeout_s: 60,
            nodes,
            mirror: 0,
        }));
    }
    let formed = |rank: &mut &mut Rank| match rank.report() {
        Report::Formed(formed) => formed.held,
        other => panic!("{other:?}"),
    };
    ranks.iter_mut().map(formed).collect()
}

fn begin() -> Order {
    Order::BeginStage(BeginStage { stage: 0, weights: String::new(), state: String::new() })
}

/// A share of one sample out of `samples`.
fn update(step: u64, attempt: u32, share: u32, samples: u64) -> Order {
    let ids = vec![10 + share, 20, 30];
    let completion = |advantage: f64| Completion {
        ids: ids.clone(),
        advantage: advantage * f64::from(share + 1),
        ..Completion::default()
    };
    let target = Target::Policy(PolicyTarget { completions: vec![completion(1.0), completion(-0.5)] });
    let sample = Sample { id: format!("s{share}"), prompt: "How good is it?".into(), ..Sample::default() };
    let counts = Counts { samples, completions: 2 * samples, tokens: 6 * samples, weight: 0.0 };
    Order::Update(Update {
        step,
        attempt,
        stage: 0,
        lr: 1e-3,
        counts: Some(counts),
        items: vec![TrainItem { sample: Some(sample), target: Some(target) }],
    })
}

fn prepared(report: &Report) {
    assert!(matches!(report, Report::StepReady(ready) if ready.finite), "{report:?}");
}

fn lines(output: &Path, rank: u32) -> Vec<Value> {
    let path = output.join(format!("logs/applied-rank-{rank}.jsonl"));
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_commit_is_applied_once_survives_an_abort_and_needs_a_prepared_step() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut rank = Rank::start(0, folder.path());
    assert_eq!(rank.form_alone(1), None);
    let Report::StageReady(start) = rank.ask(begin()) else { panic!("no stage") };
    prepared(&rank.ask(update(1, 1, 0, 1)));
    let ready = Some(Prepared { step: 1, attempt: 1 });
    assert_eq!(rank.control.held(), Some(Held { stage: 0, step: 0, prepared: ready, ..Held::default() }));
    let reason = rank.work_fails(Order::Commit(Commit { step: 1, skip: false, attempt: 2 }));
    assert_eq!(
        reason,
        "attempt 2 at step 1 cannot be committed: this worker holds step 0 of stage 0, with attempt 1 at step 1 prepared"
    );
    rank.order(Order::AbortCollectives(AbortCollectives {}));
    let first = rank.commit(1);
    assert_ne!(first.digest, start.digest);
    assert_eq!(rank.commit(1), first, "again, and nothing is applied");
    assert_eq!(rank.form_alone(2), Some(Held { stage: 0, step: 1, attempt: 1, ..Held::default() }));

    prepared(&rank.ask(update(2, 1, 0, 1)));
    rank.order(Order::Discard(Discard { step: 7 }));
    rank.order(Order::Discard(Discard { step: 2 }));
    let reason = rank.work_fails(Order::Commit(Commit { step: 2, skip: false, attempt: 1 }));
    assert!(reason.ends_with("holds step 1 of stage 0, none prepared"), "{reason}");
    // The repeated attempt gives what the first would have.
    prepared(&rank.ask(update(2, 2, 0, 1)));
    let Report::Applied(second) = rank.ask(Order::Commit(Commit { step: 2, skip: true, attempt: 2 })) else {
        panic!("not applied")
    };
    assert_eq!(second.digest, first.digest, "a skipped step changes nothing");
    let line = |step: u64, attempt: u32, skip: bool| json!({"step": step, "attempt": attempt, "skip": skip, "incarnation": 5, "term": 2, "samples": ["s0"]});
    assert_eq!(lines(folder.path(), 0), [line(1, 1, false), line(2, 2, true)]);
}

#[test]
fn a_fresh_worker_is_healed_by_a_member_and_from_a_checkpoint_by_any_number() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut old = Rank::start(0, folder.path());
    old.form_alone(1);
    old.ask(begin());
    prepared(&old.ask(update(1, 1, 0, 1)));
    let before = old.commit(1);

    let mut new = Rank::start(1, folder.path());
    let held = form(2, &mut [&mut new, &mut old], 0);
    assert_eq!(held, [None, Some(Held { stage: 0, step: 1, attempt: 1, ..Held::default() })]);
    let restore = Order::Restore(Restore { stage: 0, step: 1, source: Some(Source::Member(1)), attempt: 0 });
    [&new, &old].into_iter().for_each(|rank| rank.order(restore.clone()));
    let restored = [&mut new, &mut old].map(|rank| match rank.report() {
        Report::Restored(Restored { stage: 0, step: 1, digest, .. }) => digest,
        other => panic!("{other:?}"),
    });
    assert!(restored.iter().all(|digest| *digest == before.digest));
    new.order(update(2, 1, 0, 2));
    old.order(update(2, 1, 1, 2));
    [&mut new, &mut old].into_iter().for_each(|rank| prepared(&rank.report()));
    let after = new.commit(2);
    assert_eq!(after, old.commit(2));
    assert_eq!(lines(folder.path(), 1)[0], json!({"restored": 1, "incarnation": 5}));

    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).expect("made");
    let place = checkpoint.to_str().expect("UTF-8").to_owned();
    let write = WriteCheckpoint { step: 2, folder: place.clone(), optimizer: true };
    let report = new.ask(Order::WriteCheckpoint(write));
    assert!(matches!(report, Report::CheckpointWritten(_)), "{report:?}");
    let mut third = Rank::start(2, folder.path());
    third.form_alone(1);
    let restore = Restore { stage: 0, step: 2, source: Some(Source::Checkpoint(place)), attempt: 0 };
    let Report::Restored(loaded) = third.ask(Order::Restore(restore)) else { panic!("not restored") };
    assert_eq!(loaded.digest, after.digest);
    assert_eq!(third.control.held(), Some(Held { stage: 0, step: 2, ..Held::default() }));
    // Who is to give must hold it.
    let restore = Restore { stage: 0, step: 3, source: Some(Source::Member(0)), attempt: 0 };
    let reason = third.work_fails(Order::Restore(restore));
    assert!(reason.contains("after step 3 of stage 0, and holds step 2 of stage 0"), "{reason}");
}

#[test]
fn an_abort_ends_a_forming_and_an_all_reduce_at_once_and_the_next_epoch_has_another_store() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut a, mut b) = (Rank::start(0, folder.path()), Rank::start(1, folder.path()));
    form(1, &mut [&mut a, &mut b], 0);
    [&a, &b].into_iter().for_each(|rank| rank.order(begin()));
    [&mut a, &mut b].into_iter().for_each(|rank| assert!(matches!(rank.report(), Report::StageReady(_))));

    // The other one takes no part in the step.
    a.order(update(1, 1, 0, 2));
    a.comes_to("updating");
    let start = Instant::now();
    // An order behind it that is aborted before it begins, and one that is not.
    a.order(update(1, 2, 0, 2));
    a.order(Order::AbortCollectives(AbortCollectives {}));
    a.collective_failed();
    a.collective_failed();
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());
    b.order(Order::AbortCollectives(AbortCollectives {}));

    // The other one does not come.
    a.epoch = 2;
    let Report::StoreReady(ready) = b.ask(Order::HostStore(HostStore {})) else { panic!("no store") };
    let order = FormEpoch {
        world_size: 2,
        group_rank: 0,
        store_address: ready.address,
        timeout_s: 60,
        nodes: vec![0, 0],
        mirror: 0,
    };
    a.order(Order::FormEpoch(order));
    a.comes_to("forming");
    let start = Instant::now();
    a.order(Order::AbortCollectives(AbortCollectives {}));
    a.collective_failed();
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());

    let held = form(3, &mut [&mut a, &mut b], 1);
    assert_eq!(held, [Some(Held { stage: 0, step: 0, ..Held::default() }); 2]);
    a.order(update(1, 3, 0, 2));
    b.order(update(1, 3, 1, 2));
    [&mut a, &mut b].into_iter().for_each(|rank| prepared(&rank.report()));
}

#[test]
fn orders_of_a_stream_that_is_gone_are_not_carried_out() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut rank = Rank::start(0, folder.path());
    rank.form_alone(1);
    rank.order(begin());
    rank.order(Order::Commit(Commit { step: 9, skip: false, attempt: 1 }));
    rank.control.forget();
    // Whatever had begun by then is all that is heard of them.
    rank.order(Order::HostStore(HostStore {}));
    let mut heard = Vec::new();
    loop {
        match rank.report() {
            Report::StoreReady(_) => break,
            report => heard.push(report),
        }
    }
    assert!(heard.iter().all(|report| matches!(report, Report::StageReady(_))), "{heard:?}");
}
