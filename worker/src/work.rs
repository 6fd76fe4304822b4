//! The tensor thread: takes orders one after the other, and answers each.

use std::path::Path;
use std::sync::mpsc::Receiver;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::worker_message::Body as Report;
use proto::v1::{CheckpointWritten, CollectiveFailed, Formed, StoreReady, WorkFailed, WriteCheckpoint};
use settings::Phase;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

use crate::bench::{Bench, Shared, Stopped};
use crate::restore::restore;
use crate::session::{Identity, Stamp};
use crate::step;
use crate::world::World;

/// What the tensor thread starts with.
pub struct Assignment {
    /// Who it is.
    pub identity: Identity,
    /// What it computes on.
    pub device: tch::Device,
    /// The resolved recipe.
    pub run: settings::Run,
    /// The run's name among all.
    pub run_id: String,
    /// What the session sees of the work, and does to it.
    pub shared: Shared,
    /// What is to be done.
    pub tasks: Receiver<Task>,
    /// Where answers go, each with the stamp of what it answers.
    pub reports: UnboundedSender<(Stamp, Report)>,
}

/// What the session asks of the tensor thread.
#[derive(Debug)]
pub enum Task {
    /// Another run: nothing that is held counts any more.
    Begin {
        /// Its recipe.
        run: Box<settings::Run>,
        /// Its name among all.
        run_id: String,
    },
    /// The same run with some settings changed.
    Adopt {
        /// Its recipe.
        run: Box<settings::Run>,
    },
    /// An order of the coordinator.
    Order {
        /// Counts this process's orders, see [`crate::control::Control`].
        number: u64,
        /// Where in the run it belongs.
        stamp: Stamp,
        /// The order.
        order: Box<Order>,
    },
}

/// Works until the tasks end.
pub fn run(assignment: Assignment) {
    let Assignment { identity, device, run, run_id, shared, tasks, reports } = assignment;
    if let Ok(threads @ 1..) = i32::try_from(identity.threads) {
        tch::set_num_threads(threads);
    }
    let new_bench = |run, run_id: &str| {
        let world = World::new(identity.address.clone(), device, shared.control.clone());
        Bench::new(run, run_id, identity.rank, device, world, shared.clone())
    };
    let mut bench = new_bench(run, &run_id);
    while let Ok(task) = tasks.recv() {
        let (number, stamp, order) = match task {
            Task::Begin { run, run_id } => {
                bench.world.leave();
                bench = new_bench(*run, &run_id);
                continue;
            }
            Task::Adopt { run } => {
                bench.adopt(*run);
                continue;
            }
            Task::Order { number, stamp, order } => (number, stamp, *order),
        };
        if shared.control.is_forgotten(number) {
            debug!("dropped an order of an earlier stream");
            continue;
        }
        bench.now = (number, stamp);
        shared.control.set_running(true);
        let prepared = prepares(&order);
        let report = answer(&mut bench, order);
        bench.progress.enter("waiting");
        shared.control.set_running(false);
        let Some(report) = report else { continue };
        let ready = matches!(report, Report::StepReady(_));
        if reports.send((stamp, report)).is_err() {
            debug!("the session ended before a report was sent");
            return;
        }
        if let Some(step) = prepared.filter(|_| ready) {
            bench.faults.strike(step, Phase::Prepared);
        }
    }
}

/// The step that an order prepares.
fn prepares(order: &Order) -> Option<u64> {
    if let Order::Update(update) = order { Some(update.step) } else { None }
}

/// Whether an order is nothing without its epoch's group.
fn needs_group(order: &Order) -> bool {
    matches!(
        order,
        Order::FormEpoch(_)
            | Order::BeginStage(_)
            | Order::Restore(_)
            | Order::Rollout(_)
            | Order::Update(_)
            | Order::Evaluate(_)
            | Order::WriteCheckpoint(_)
    )
}

/// What is reported of an order.
fn answer(bench: &mut Bench, order: Order) -> Option<Report> {
    let done = if needs_group(&order) && bench.halted()() {
        Err(Stopped::Collective("the epoch was aborted before this order was begun".into()))
    } else {
        carry_out(bench, order)
    };
    match done {
        Ok(report) => report,
        Err(Stopped::Collective(reason)) => {
            warn!(reason, "a collective failed");
            bench.world.leave();
            Some(Report::CollectiveFailed(CollectiveFailed { reason }))
        }
        Err(Stopped::Work(reason)) => {
            warn!(reason, "work failed");
            Some(Report::WorkFailed(WorkFailed { reason, wrong_input: false }))
        }
        Err(Stopped::Input(reason)) => {
            warn!(reason, "the input cannot be used");
            Some(Report::WorkFailed(WorkFailed { reason, wrong_input: true }))
        }
    }
}

fn carry_out(bench: &mut Bench, order: Order) -> Result<Option<Report>, Stopped> {
    Ok(match order {
        Order::HostStore(_) => {
            let address = bench.world.host_store().map_err(Stopped::Work)?;
            Some(Report::StoreReady(StoreReady { address }))
        }
        Order::FormEpoch(order) => {
            bench.progress.enter("forming");
            bench.faults.strike(bench.step() + 1, Phase::Forming);
            bench.form(bench.now.1.epoch(), &order)?;
            Some(Report::Formed(Formed { held: bench.control.held(), mirrored: bench.is_mirrored() }))
        }
        Order::BeginStage(order) => {
            bench.progress.enter("loading");
            Some(Report::StageReady(bench.begin_stage(&order)?))
        }
        Order::Restore(order) => Some(Report::Restored(restore(bench, order)?)),
        Order::Rollout(order) => Some(Report::RolloutsReady(step::rollout(bench, order)?)),
        Order::Update(order) => {
            bench.faults.strike(order.step, Phase::Update);
            Some(Report::StepReady(step::update(bench, order)?))
        }
        Order::Commit(order) => {
            bench.faults.strike(order.step, Phase::Commit);
            Some(Report::Applied(step::commit(bench, order)?))
        }
        Order::Discard(order) => {
            step::discard(bench, order);
            None
        }
        Order::AbortCollectives(_) => {
            bench.world.leave();
            None
        }
        Order::Evaluate(order) => Some(Report::Evaluated(step::evaluate(bench, order)?)),
        Order::WriteCheckpoint(order) => {
            bench.progress.enter("writing a checkpoint");
            Some(Report::CheckpointWritten(write_checkpoint(bench, &order)?))
        }
        Order::Welcome(_) | Order::Refused(_) | Order::Stop(_) => None,
    })
}

/// This rank's files of a checkpoint, with their digests by name.
fn write_checkpoint(bench: &mut Bench, order: &WriteCheckpoint) -> Result<CheckpointWritten, Stopped> {
    let folder = Path::new(&order.folder);
    let mut files = bench.export(folder)?;
    // Half of it is written.
    bench.faults.strike(order.step, Phase::Checkpoint);
    if order.optimizer {
        files.extend(bench.trainer()?.save_state(folder)?);
    }
    let digests = files.into_iter().map(|(name, file)| (name, file.sha256)).collect();
    Ok(CheckpointWritten { step: order.step, digests })
}
