//! The wire's listening side: streams become arrivals; nothing is decided here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::v1::run_server::{Run, RunServer};
use proto::v1::worker_message::Body as Report;
use proto::v1::{CoordinatorMessage, Join, StatusReply, StatusRequest, WorkerMessage};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::failure::Failure;

/// What a new stream may take to introduce itself.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// Streams that may be introducing themselves at once.
const STRANGERS: usize = 64;
/// Orders that may wait for a worker to read them.
const ORDERS: usize = 64;
/// Reports that may wait to be handled, over all workers.
const ARRIVALS: usize = 1024;

/// Where orders to a stream go.
pub type Orders = mpsc::Sender<Result<CoordinatorMessage, Status>>;

/// What comes in.
#[derive(Debug)]
pub enum Arrival {
    /// A stream introduced itself.
    Opened {
        /// Names the stream from now on.
        stream: u64,
        /// The rank that it asks for.
        rank: u32,
        /// What it says of itself.
        join: Join,
        /// Where orders to it go; dropping it ends the stream.
        orders: Orders,
    },
    /// A stream says something.
    Message {
        /// Which stream.
        stream: u64,
        /// What.
        message: WorkerMessage,
    },
    /// A stream ended.
    Closed {
        /// Which stream.
        stream: u64,
        /// As the transport has it.
        reason: String,
    },
}

/// A listening server; dropping it closes the port.
#[derive(Debug)]
pub struct Server {
    /// `host:port`, the port as the system gave it.
    pub address: String,
    /// What comes in.
    pub arrivals: mpsc::Receiver<Arrival>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Listens on `listen` (`host:port`, port 0: the system chooses). `status` is what the status call answers.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(listen: &str, status: watch::Receiver<String>) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AddrInUse => Failure::input(format!(
                "{listen}: the port is in use: choose another coordinator.listen in the host file, or port 0 for any"
            )),
            _ => Failure::input(format!(
                "coordinator.listen {listen}: {e}; expected host:port with an address of this host"
            )),
        };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?.to_string();
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let service = Service {
            arrivals: sender,
            status,
            streams: Arc::new(AtomicU64::new(0)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
        };
        let service = RunServer::new(service)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            // Small orders must not wait for one another.
            stream.and_then(|s| s.set_nodelay(true).map(|()| s))
        });
        let task = tokio::spawn(async move {
            let served = tonic::transport::Server::builder()
                .max_concurrent_streams(8)
                .http2_keepalive_interval(Some(Duration::from_secs(10)))
                .add_service(service)
                .serve_with_incoming(incoming)
                .await;
            if let Err(error) = served {
                tracing::error!("the server ended: {error}");
            }
        });
        Ok(Self { address, arrivals, task })
    }
}

struct Service {
    arrivals: mpsc::Sender<Arrival>,
    status: watch::Receiver<String>,
    streams: Arc<AtomicU64>,
    strangers: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Run for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let permit = self.strangers.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| Status::resource_exhausted("too many streams are introducing themselves"))?;
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(INTRODUCTION, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the first message did not come; expected Join"))??;
        drop(permit);
        let (rank, join) = introduction(first)?;
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let (orders, outgoing) = mpsc::channel(ORDERS);
        let opened = Arrival::Opened { stream, rank, join, orders };
        self.arrivals.send(opened).await.map_err(|_| Status::unavailable("the run is over"))?;
        tokio::spawn(read(stream, inbound, self.arrivals.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn pause(&self, _: Request<proto::v1::PauseRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented("this coordinator cannot pause"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply { json: self.status.borrow().clone() }))
    }
}

fn introduction(first: Option<WorkerMessage>) -> Result<(u32, Join), Status> {
    match first {
        Some(WorkerMessage { rank, body: Some(Report::Join(join)), .. }) => Ok((rank, join)),
        Some(_) => Err(Status::invalid_argument("the first message must be Join")),
        None => Err(Status::invalid_argument("the stream ended before Join")),
    }
}

async fn read(stream: u64, mut inbound: Streaming<WorkerMessage>, arrivals: mpsc::Sender<Arrival>) {
    let reason = loop {
        match inbound.message().await {
            Ok(Some(message)) => {
                if arrivals.send(Arrival::Message { stream, message }).await.is_err() {
                    return;
                }
            }
            Ok(None) => break "it closed the stream".to_owned(),
            Err(status) => break status.message().to_owned(),
        }
    };
    // Nobody listens once the run is over.
    let _ = arrivals.send(Arrival::Closed { stream, reason }).await;
}
