//! One stream with the coordinator: from the search for it to Welcome.

use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::run_client::RunClient;
use proto::v1::{CoordinatorMessage, Welcome, WorkerMessage};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Streaming};
use tracing::info;

use super::Coordinator;
use crate::failure::Failure;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a coordinator that is connected to may take to answer Join.
const ANSWER: Duration = Duration::from_secs(20);

/// A stream on which the coordinator has welcomed this worker.
pub(super) struct Link {
    pub(super) orders: Streaming<CoordinatorMessage>,
    /// Never full: what the coordinator does not read ends with the connection.
    pub(super) reports: UnboundedSender<WorkerMessage>,
    pub(super) welcome: Welcome,
    pub(super) term: u64,
    pub(super) epoch: u64,
}

/// Why a try did not lead to a link.
enum Miss {
    /// Another may.
    Again(String),
    /// A process that holds nothing has no reason to try again.
    Final(Failure),
}

/// Who looks for a coordinator, and how long.
pub(super) struct Search<'a> {
    pub(super) coordinator: &'a Coordinator,
    pub(super) patience: Duration,
    /// It holds a run's state: what ends a new process is tried again.
    pub(super) holds: bool,
    /// Coordinators of a lower one are not listened to.
    pub(super) term: u64,
}

impl Search<'_> {
    /// Looks until a coordinator welcomes this worker; `join` is what it says of itself at each try.
    ///
    /// # Errors
    /// If none does within the patience (75), or a new process is refused (1).
    pub(super) async fn join(&self, join: impl Fn() -> WorkerMessage) -> Result<Link, Failure> {
        let end = Instant::now() + self.patience;
        let mut told = String::new();
        loop {
            let why = match self.once(join()).await {
                Ok(link) => return Ok(link),
                Err(Miss::Final(failure)) if !self.holds => return Err(failure),
                Err(Miss::Final(failure)) => failure.message,
                Err(Miss::Again(why)) => why,
            };
            if why != told {
                info!("not joined yet: {why}");
                told.clone_from(&why);
            }
            if Instant::now() >= end {
                return Err(Failure::retry(format!(
                    "no coordinator took it in for {} s ({why}): start one first, or check the address",
                    self.patience.as_secs()
                )));
            }
            sleep(PAUSE).await;
        }
    }

    async fn once(&self, join: WorkerMessage) -> Result<Link, Miss> {
        let rank = join.rank;
        let address = self.coordinator.address().map_err(Miss::Again)?;
        let endpoint = self.coordinator.endpoint(&address).map_err(|e| Miss::Final(Failure::input(e)))?;
        let channel =
            endpoint.connect().await.map_err(|e| Miss::Again(format!("{address}: {}", reason(&e))))?;
        let mut client = RunClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        let (reports, outgoing) = unbounded_channel();
        // The channel is new: it takes the message.
        let _ = reports.send(join);
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        if let Some(token) = self.coordinator.token() {
            request.metadata_mut().insert("authorization", token);
        }
        let opened = async {
            let mut orders = client.session(request).await?.into_inner();
            let first = orders.message().await?;
            Ok::<_, tonic::Status>((orders, first))
        };
        let late = || Miss::Again(format!("{address} did not answer for {} s", ANSWER.as_secs()));
        let (orders, first) = timeout(ANSWER, opened).await.map_err(|_| late())?.map_err(|status| {
            let text = format!("{address} did not open a session: {}", status.message());
            Miss::Final(match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => {
                    Failure::other(format!("{text}: give this run's --token-file or --certificates"))
                }
                _ => Failure::retry(text),
            })
        })?;
        let first = first.ok_or_else(|| Miss::Again(format!("{address} closed the session")))?;
        if first.term < self.term {
            info!(term = first.term, ours = self.term, "dropped an order of an older term");
            let text = format!(
                "{address} is a coordinator of term {}, and term {} has begun",
                first.term, self.term
            );
            return Err(Miss::Again(text));
        }
        match first.body {
            Some(Order::Welcome(welcome)) => {
                Ok(Link { orders, reports, welcome, term: first.term, epoch: first.epoch })
            }
            Some(Order::Refused(refused)) => {
                let text = format!("the coordinator refused rank {rank}: {}", refused.reason);
                Err(if refused.again { Miss::Again(text) } else { Miss::Final(Failure::other(text)) })
            }
            other => Err(Miss::Final(Failure::other(format!("expected Welcome or Refused, got {other:?}")))),
        }
    }
}

/// The innermost cause: "Connection refused" says more than "transport error".
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
