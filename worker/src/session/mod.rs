//! The stream with the coordinator: async messages on one side, the tensor thread on the other.

use std::thread;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::run_client::RunClient;
use proto::v1::worker_message::Body as Report;
use proto::v1::{CoordinatorMessage, Heartbeat, Join, Left, Welcome, WorkerMessage};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;
use tracing::info;

use crate::failure::Failure;
use crate::progress::Progress;
use crate::work::{self, Assignment};

/// How long to look for a coordinator that is not up yet.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// How long the last report may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Who this worker says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its rank in the run.
    pub rank: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The local address that its collectives bind to.
    pub address: String,
    /// Compute threads; 0: libtorch's own choice.
    pub threads: usize,
    /// The node that it runs on.
    pub host: String,
}

/// Where messages are in the run: what every one of them carries.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    rank: u32,
    incarnation: u64,
    epoch: u64,
    term: u64,
}

impl Stamp {
    /// The epoch that an order belongs to.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// The report under this stamp.
    #[must_use]
    pub fn seal(self, body: Report) -> WorkerMessage {
        let Self { rank, incarnation, epoch, term } = self;
        WorkerMessage { rank, incarnation, epoch, term, body: Some(body) }
    }
}

/// Joins, then carries orders to the tensor thread and its reports back, until told to stop.
///
/// # Errors
/// If the coordinator cannot be reached or goes away (75), refuses this worker (1), or work fails (1).
pub async fn run(identity: Identity, coordinator: &str, device: tch::Device) -> Result<(), Failure> {
    let (reports, outgoing) = mpsc::channel::<WorkerMessage>(64);
    let joining = Stamp { rank: identity.rank, incarnation: 0, epoch: 0, term: 0 };
    let join = Join {
        version: proto::VERSION.into(),
        host: identity.host.clone(),
        process: std::process::id(),
        device: identity.device.clone(),
    };
    send(&reports, joining.seal(Report::Join(join))).await?;
    let mut orders = connect(coordinator, outgoing).await?;

    let first = next(&mut orders).await?;
    let welcome = match first.body {
        Some(Order::Welcome(welcome)) => welcome,
        Some(Order::Refused(refused)) => {
            return Err(Failure::other(format!(
                "the coordinator refused rank {}: {}",
                identity.rank, refused.reason
            )));
        }
        other => return Err(Failure::other(format!("expected Welcome or Refused, got {other:?}"))),
    };
    let stamp = Stamp { incarnation: welcome.incarnation, epoch: first.epoch, term: first.term, ..joining };
    info!(rank = identity.rank, incarnation = welcome.incarnation, run = welcome.run_id, "joined");
    serve(identity, device, &welcome, stamp, orders, reports).await
}

async fn serve(
    identity: Identity,
    device: tch::Device,
    welcome: &Welcome,
    mut stamp: Stamp,
    mut orders: Streaming<CoordinatorMessage>,
    reports: mpsc::Sender<WorkerMessage>,
) -> Result<(), Failure> {
    let run: settings::Run = serde_json::from_str(&welcome.run_json)
        .map_err(|e| Failure::other(format!("the coordinator's recipe cannot be read: {e}")))?;
    let progress = Progress::default();
    let (to_work, work_orders) = std::sync::mpsc::channel();
    let assignment =
        Assignment { threads: identity.threads, identity, device, run, progress: progress.clone() };
    let work_reports = reports.clone();
    thread::Builder::new()
        .name("tensors".into())
        .spawn(move || work::run(assignment, &work_orders, &work_reports))
        .map_err(|e| Failure::other(format!("cannot start the tensor thread: {e}")))?;

    let mut beat = tokio::time::interval(Duration::from_millis(u64::from(welcome.heartbeat_ms.max(10))));
    loop {
        tokio::select! {
            _ = beat.tick() => {
                let (phase, done) = progress.read();
                let heartbeat = Heartbeat { phase: phase.into(), progress: done };
                send(&reports, stamp.seal(Report::Heartbeat(heartbeat))).await?;
            }
            order = next(&mut orders) => {
                let order = order?;
                if order.term < stamp.term {
                    info!(term = order.term, ours = stamp.term, "dropped an order of an older term");
                    continue;
                }
                (stamp.term, stamp.epoch) = (order.term, order.epoch);
                match order.body {
                    Some(Order::Stop(stop)) => {
                        info!(reason = stop.reason, "stopping");
                        send(&reports, stamp.seal(Report::Left(Left {}))).await?;
                        drop(to_work);
                        drop(reports);
                        // The coordinator ends the stream once it has read the last report.
                        let rest = async { while let Some(Ok(_)) = orders.next().await {} };
                        let _ = tokio::time::timeout(LAST_WORDS, rest).await;
                        return Ok(());
                    }
                    Some(Order::Refused(refused)) => {
                        return Err(Failure::other(format!("the coordinator refused us: {}", refused.reason)));
                    }
                    Some(body) => to_work.send((stamp, body)).map_err(|_| {
                        Failure::other("the tensor thread has ended; its reason stands above")
                    })?,
                    None => return Err(Failure::other("an order without a body: is the coordinator of another version?")),
                }
            }
        }
    }
}

async fn connect(
    address: &str,
    outgoing: mpsc::Receiver<WorkerMessage>,
) -> Result<Streaming<CoordinatorMessage>, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| Failure::input(format!("{address} is not an address: {e}")))?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true);
    let patience = tokio::time::Instant::now() + CONNECT_PATIENCE;
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(e) if tokio::time::Instant::now() >= patience => {
                return Err(Failure::retry(format!(
                    "no coordinator at {address} for {} s ({e}): start it first, or check the address",
                    CONNECT_PATIENCE.as_secs()
                )));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let mut client = RunClient::new(channel)
        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
    let stream = client
        .session(ReceiverStream::new(outgoing))
        .await
        .map_err(|e| Failure::retry(format!("{address} did not open a session: {}", e.message())))?;
    Ok(stream.into_inner())
}

async fn next(orders: &mut Streaming<CoordinatorMessage>) -> Result<CoordinatorMessage, Failure> {
    match orders.next().await {
        Some(Ok(order)) => Ok(order),
        Some(Err(e)) => Err(Failure::retry(format!("the coordinator is gone: {}", e.message()))),
        None => Err(Failure::retry("the coordinator closed the session")),
    }
}

async fn send(reports: &mpsc::Sender<WorkerMessage>, message: WorkerMessage) -> Result<(), Failure> {
    reports.send(message).await.map_err(|_| Failure::retry("the session with the coordinator is closed"))
}

/// The machine's name.
#[must_use]
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".into(), |s| s.trim().to_string())
}
