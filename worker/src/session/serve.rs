//! One stream's life: heartbeats and reports out, orders in.

use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::worker_message::Body as Report;
use proto::v1::{CoordinatorMessage, Heartbeat, Leaving, Left, WorkFailed};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tracing::{debug, info};

use super::link::Link;
use super::{Member, Stamp, dead, ended};
use crate::failure::Failure;
use crate::work::Task;

/// How long the last report may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a worker that was told to end goes on.
const LEAVING_SECONDS: u32 = 30;

/// How a stream came to its end.
pub(super) enum Ended {
    /// The coordinator said so.
    Stopped,
    /// It broke: why.
    Lost(String),
}

/// What an order makes of the stream.
enum Then {
    GoOn,
    Stop,
}

impl Member {
    /// Serves until the stream ends.
    ///
    /// # Errors
    /// If the tensor thread has ended, the coordinator refuses what it had welcomed, or this process was told to end
    /// and its time is over.
    pub(super) async fn serve(&mut self, link: Link, told_to_end: &mut Signal) -> Result<Ended, Failure> {
        let Link { mut orders, reports, welcome, term, epoch } = link;
        self.streams += 1;
        self.term = term;
        let (rank, incarnation) = (self.identity.rank, welcome.incarnation);
        let mut stamp = Stamp { rank, incarnation, epoch, term, stream: self.streams };
        if let Err(failure) = self.take_up(&welcome).await {
            let reason = failure.message.clone();
            let failed = WorkFailed { reason, wrong_input: failure.exit_code == 2 };
            // The coordinator ends the run with it, and the stream.
            let _ = reports.send(stamp.seal(Report::WorkFailed(failed)));
            let _ = timeout(LAST_WORDS, async { while let Ok(Some(_)) = orders.message().await {} }).await;
            return Err(failure);
        }
        info!(rank, incarnation, term, run = welcome.run_id, "joined");
        let mut beat = interval(Duration::from_millis(u64::from(welcome.heartbeat_ms.max(10))));
        if self.leaving.is_some() {
            // The coordinator of the stream before may have known; this one does not.
            let _ = reports.send(stamp.seal(Report::Leaving(Leaving { seconds: LEAVING_SECONDS })));
        }
        loop {
            let leaving = self.leaving;
            let Some(joined) = &mut self.joined else { return Err(dead()) };
            // A report that cannot be sent is one of a stream that ends: the orders say so.
            tokio::select! {
                _ = beat.tick() => {
                    let (phase, progress) = self.progress.read();
                    let heartbeat = Heartbeat { phase: phase.into(), progress };
                    let _ = reports.send(stamp.seal(Report::Heartbeat(heartbeat)));
                }
                report = joined.reports.recv() => {
                    let (own, body) = report.ok_or_else(dead)?;
                    if own.stream == stamp.stream {
                        let _ = reports.send(own.seal(body));
                    } else {
                        debug!("dropped a report of an earlier stream");
                    }
                }
                order = orders.message() => match order {
                    Ok(Some(order)) => match self.obey(order, &mut stamp)? {
                        Then::GoOn => {}
                        Then::Stop => {
                            let _ = reports.send(stamp.seal(Report::Left(Left {})));
                            drop(reports);
                            // The coordinator ends the stream once it has read the last report.
                            let rest = async { while let Ok(Some(_)) = orders.message().await {} };
                            let _ = timeout(LAST_WORDS, rest).await;
                            return Ok(Ended::Stopped);
                        }
                    },
                    Ok(None) => return Ok(Ended::Lost("the coordinator closed the session".into())),
                    Err(e) => return Ok(Ended::Lost(format!("the coordinator is gone: {}", e.message()))),
                },
                () = ended(told_to_end) => {
                    if leaving.is_some() {
                        return Err(Failure::retry("told to end (SIGTERM) twice"));
                    }
                    info!("told to end (SIGTERM): leaving within {LEAVING_SECONDS} s; a second signal ends at once");
                    self.leaving = Some(Instant::now() + Duration::from_secs(LEAVING_SECONDS.into()));
                    let _ = reports.send(stamp.seal(Report::Leaving(Leaving { seconds: LEAVING_SECONDS })));
                }
                () = passed(leaving) => {
                    return Err(Failure::retry(format!(
                        "told to end (SIGTERM), and not stopped by the coordinator for {LEAVING_SECONDS} s"
                    )));
                }
            }
        }
    }

    /// Hands an order to the tensor thread; what must not wait for that thread happens here.
    fn obey(&mut self, order: CoordinatorMessage, stamp: &mut Stamp) -> Result<Then, Failure> {
        if order.term < stamp.term {
            info!(term = order.term, ours = stamp.term, "dropped an order of an older term");
            return Ok(Then::GoOn);
        }
        (stamp.term, stamp.epoch) = (order.term, order.epoch);
        self.term = order.term;
        let Some(body) = order.body else {
            return Err(Failure::other("an order without a body: is the coordinator of another version?"));
        };
        match &body {
            Order::Stop(stop) => {
                info!(reason = stop.reason, "stopping");
                self.control.forget();
                return Ok(Then::Stop);
            }
            Order::Refused(refused) => {
                return Err(Failure::other(format!("the coordinator refused us: {}", refused.reason)));
            }
            // The tensor thread may wait in what this is to end.
            Order::AbortCollectives(_) => self.control.abort(),
            _ => {}
        }
        let joined = self.joined.as_ref().ok_or_else(dead)?;
        joined.tell(Task::Order { number: self.control.number(), stamp: *stamp, order: Box::new(body) })?;
        Ok(Then::GoOn)
    }
}

/// Comes when the moment has come, if there is one.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
