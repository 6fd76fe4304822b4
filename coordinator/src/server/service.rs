//! The three calls. A stranger is heard for a moment; who has no token, not at all.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::v1::coordinator_message::Body as Order;
use proto::v1::run_server::Run;
use proto::v1::worker_message::Body as Report;
use proto::v1::{CoordinatorMessage, Join, PauseRequest, StatusReply, StatusRequest, WorkerMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::anteroom::Anteroom;
use super::connection::Peer;
use super::pace::Pace;
use super::refusals::Refusals;
use super::{Arrival, INTRODUCTION, STRANGERS};
use crate::security::Token;

/// Orders that may wait for a worker to read them.
const ORDERS: usize = 64;

/// Answers the calls.
pub(super) struct Service {
    arrivals: mpsc::Sender<Arrival>,
    status: watch::Receiver<String>,
    token: Option<Token>,
    refusals: Arc<Refusals>,
    streams: AtomicU64,
    strangers: Anteroom,
}

impl Service {
    pub(super) fn new(
        arrivals: mpsc::Sender<Arrival>,
        status: watch::Receiver<String>,
        token: Option<Token>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let strangers = Anteroom::new(STRANGERS, INTRODUCTION);
        Self { arrivals, status, token, refusals, streams: AtomicU64::new(0), strangers }
    }

    /// Lets a request in that carries the token.
    fn admit<T>(&self, request: &Request<T>) -> Result<Option<Peer>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        if let Some(peer) = &peer {
            peer.has_spoken();
        }
        let Some(token) = &self.token else { return Ok(peer) };
        if token.is_in(request.metadata()) {
            return Ok(peer);
        }
        let given = request.metadata().contains_key(crate::security::HEADER);
        let why = if given { "the join token is wrong" } else { "the join token is missing" };
        if let Some(peer) = peer {
            self.refusals.tell(peer.address, why);
        }
        Err(Status::unauthenticated(format!(
            "{why}: give --token-file with the file that the host file names"
        )))
    }
}

#[tonic::async_trait]
impl Run for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = self.admit(&request)?;
        let mut inbound = request.into_inner();
        let first = tokio::select! {
            first = inbound.message() => first?,
            () = self.strangers.enter() => {
                return Err(Status::deadline_exceeded("the first message did not come; expected Join"));
            }
        };
        let (rank, join) = introduction(first)?;
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let (orders, outgoing) = mpsc::channel(ORDERS);
        let opened = Arrival::Opened { stream, rank, join, orders };
        self.arrivals.send(opened).await.map_err(|_| Status::unavailable("the run is over"))?;
        tokio::spawn(read(stream, inbound, self.arrivals.clone()));
        let outgoing = ReceiverStream::new(outgoing).map(move |order| {
            if let (Some(peer), Ok(CoordinatorMessage { body: Some(Order::Welcome(_)), .. })) =
                (&peer, &order)
            {
                peer.is_welcome();
            }
            order
        });
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<StatusReply>, Status> {
        self.admit(&request)?;
        let pause = Arrival::Pause(request.into_inner().pause);
        self.arrivals.send(pause).await.map_err(|_| Status::unavailable("the run is over"))?;
        Ok(Response::new(StatusReply { json: self.status.borrow().clone() }))
    }

    /// It names hosts, processes and folders: for those alone who have the token.
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        self.admit(&request)?;
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
    let mut pace = Pace::new(Instant::now());
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
        if let Some(next) = pace.take(Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
    };
    // Nobody listens once the run is over.
    let _ = arrivals.send(Arrival::Closed { stream, reason }).await;
}
