//! The wire's listening side: streams become arrivals; nothing is decided here.

mod anteroom;
mod connection;
pub mod interface;
mod pace;
mod refusals;
mod service;

use std::sync::Arc;
use std::time::Duration;

use proto::v1::run_server::RunServer;
use proto::v1::{CoordinatorMessage, Join, WorkerMessage};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

use crate::failure::Failure;
use crate::security::Demands;
use anteroom::Anteroom;
use connection::{Connection, Peer};
use refusals::Refusals;
use service::Service;

/// What a new connection, and a new stream, may take to introduce itself.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// Connections, and streams, that may be introducing themselves at once.
const STRANGERS: usize = 1024;
/// Connections at once: more than any host file has workers.
const CONNECTIONS: usize = 8192;
/// Streams at once on a connection.
const STREAMS: u32 = 8;
/// Headers of a request, bytes.
const HEADERS: u32 = 16 << 10;
/// Streams that a connection may have reset before they were looked at, and have had reset for its own errors.
const RESETS: usize = 32;
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
    /// A person holds the run (`true`), or lets it go on.
    Pause(bool),
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
    /// Listens on `listen` (`host:port`, port 0: the system chooses) for those who meet `demands`. `status` is what the
    /// status call answers.
    ///
    /// # Errors
    /// If the address cannot be listened on, or the certificates cannot be used.
    pub async fn start(
        listen: &str,
        demands: Demands,
        status: watch::Receiver<String>,
    ) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AddrInUse => Failure::input(format!(
                "{listen}: the port is in use: choose another coordinator.listen in the host file, or port 0 for any"
            )),
            _ => Failure::input(format!(
                "coordinator.listen {listen}: {e}; expected host:port with an address of this host"
            )),
        };
        raise_file_limit();
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?.to_string();
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let Demands { token, tls } = demands;
        let mut server = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(HEADERS)
            .http2_max_pending_accept_reset_streams(Some(RESETS))
            .http2_max_local_error_reset_streams(Some(RESETS))
            .http2_keepalive_interval(Some(Duration::from_secs(10)));
        let refusals = Arc::new(Refusals::default());
        let door = Door {
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            strangers: Anteroom::new(STRANGERS, INTRODUCTION),
            handshakes: tls.is_some().then(|| Arc::clone(&refusals)),
        };
        if let Some(tls) = tls {
            server = server.tls_config(tls).map_err(|e| {
                Failure::input(format!(
                    "security.certificates: {e}; expected what \"coordinator certificates\" wrote"
                ))
            })?;
        }
        let service = RunServer::new(Service::new(sender, status, token, refusals))
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        let incoming = TcpListenerStream::new(listener).filter_map(move |stream| match stream {
            Ok(stream) => door.open(stream).map(Ok),
            Err(error) => Some(Err(error)),
        });
        let task = tokio::spawn(async move {
            let served = server.add_service(service).serve_with_incoming(incoming).await;
            if let Err(error) = served {
                tracing::error!("the server ended: {error}");
            }
        });
        Ok(Self { address, arrivals, task })
    }
}

/// A connection is an open file: as many as the system lets this process have.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the one struct that they are given, which outlives them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            // Refused: the limit stays as it was.
            let _ = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Lets connections in.
struct Door {
    connections: Arc<Semaphore>,
    strangers: Anteroom,
    /// Who is told of failed handshakes; `None` without TLS.
    handshakes: Option<Arc<Refusals>>,
}

impl Door {
    /// `None`, and the connection is closed: there is no room, or it is gone already.
    fn open(&self, stream: TcpStream) -> Option<Connection> {
        let place = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let peer = Peer::new(stream.peer_addr().ok()?);
        // Small orders must not wait for one another.
        stream.set_nodelay(true).ok()?;
        Some(Connection::new(stream, peer, self.strangers.enter(), self.handshakes.clone(), place))
    }
}
