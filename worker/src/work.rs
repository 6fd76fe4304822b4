//! The tensor thread: takes orders one after the other, and answers each.

use std::path::Path;
use std::sync::mpsc::Receiver;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::worker_message::Body as Report;
use proto::v1::{
    CheckpointWritten, CollectiveFailed, Formed, StoreReady, WorkFailed, WorkerMessage, WriteCheckpoint,
};
use settings::{FaultAction, Phase};
use tokio::sync::mpsc::Sender;
use tracing::{debug, warn};

use crate::bench::{Bench, Stopped};
use crate::progress::Progress;
use crate::session::{Identity, Stamp};
use crate::step;
use crate::world::World;

/// What the tensor thread starts with.
pub struct Assignment {
    /// Who it is.
    pub identity: Identity,
    /// What it computes on.
    pub device: tch::Device,
    /// Compute threads; 0: libtorch's own choice.
    pub threads: usize,
    /// The resolved recipe.
    pub run: settings::Run,
    /// What the heartbeats tell.
    pub progress: Progress,
}

/// Works until the orders end.
pub fn run(assignment: Assignment, orders: &Receiver<(Stamp, Order)>, reports: &Sender<WorkerMessage>) {
    let Assignment { identity, device, threads, run, progress } = assignment;
    if let Ok(threads @ 1..) = i32::try_from(threads) {
        tch::set_num_threads(threads);
    }
    let faults = Faults { rank: identity.rank, planned: run.faults.clone() };
    let mut bench = Bench::new(run, device, World::new(identity.address, device), progress);
    while let Ok((stamp, order)) = orders.recv() {
        let report = match carry_out(&mut bench, &faults, stamp.epoch(), order) {
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
        };
        bench.progress.enter("waiting");
        let Some(report) = report else { continue };
        if reports.blocking_send(stamp.seal(report)).is_err() {
            debug!("the session ended before a report was sent");
            return;
        }
    }
}

fn carry_out(
    bench: &mut Bench,
    faults: &Faults,
    epoch: u64,
    order: Order,
) -> Result<Option<Report>, Stopped> {
    Ok(match order {
        Order::HostStore(_) => {
            let address = bench.world.host_store().map_err(Stopped::Work)?;
            Some(Report::StoreReady(StoreReady { address }))
        }
        Order::FormEpoch(order) => {
            bench.progress.enter("forming");
            bench.form(epoch, &order)?;
            Some(Report::Formed(Formed {}))
        }
        Order::BeginStage(order) => {
            bench.progress.enter("loading");
            Some(Report::StageReady(bench.begin_stage(&order)?))
        }
        Order::Rollout(order) => {
            faults.strike(order.step, Phase::Rollout);
            Some(Report::RolloutsReady(step::rollout(bench, order)?))
        }
        Order::Update(order) => {
            faults.strike(order.step, Phase::Update);
            Some(Report::StepReady(step::update(bench, order)?))
        }
        Order::Commit(order) => {
            faults.strike(order.step, Phase::Commit);
            Some(Report::Applied(step::commit(bench, order)?))
        }
        Order::Discard(_) => {
            bench.trainer()?.discard();
            None
        }
        Order::AbortCollectives(_) => {
            bench.world.leave();
            None
        }
        Order::Evaluate(order) => Some(Report::Evaluated(step::evaluate(bench, order)?)),
        Order::WriteCheckpoint(order) => {
            faults.strike(order.step, Phase::Checkpoint);
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
    if order.optimizer {
        files.extend(bench.trainer()?.save_state(folder)?);
    }
    let digests = files.into_iter().map(|(name, file)| (name, file.sha256)).collect();
    Ok(CheckpointWritten { step: order.step, digests })
}

/// Planned faults of this rank.
struct Faults {
    rank: u32,
    planned: Vec<settings::Fault>,
}

impl Faults {
    /// Does what is planned for this moment.
    fn strike(&self, step: u64, phase: Phase) {
        let here = |f: &&settings::Fault| (f.rank, f.step, f.phase) == (self.rank, step, phase);
        match self.planned.iter().find(here).map(|fault| fault.action) {
            Some(FaultAction::Kill) => {
                warn!(step, ?phase, "planned fault: killing this process");
                // SAFETY: kill takes no pointers; it ends this process, which is the fault's purpose.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            }
            None => {}
        }
    }
}
