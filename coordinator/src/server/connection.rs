//! A connection and what it may do before a worker on it is welcome: wait a while, and send a little.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tonic::transport::server::Connected;

use super::refusals::Refusals;

/// What a stranger may send in all, handshakes and questions included, bytes.
const STRANGERS_BYTES: usize = 256 << 10;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// A request came through: with TLS, the certificates are good.
    spoke: Arc<AtomicBool>,
    /// A worker on it was taken in.
    welcome: Arc<AtomicBool>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, spoke: Arc::default(), welcome: Arc::default() }
    }

    pub(super) fn has_spoken(&self) {
        self.spoke.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_welcome(&self) {
        self.welcome.store(true, Ordering::Relaxed);
    }
}

/// A connection; it fails when its stranger's time, bytes or place are used up.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    received: usize,
    /// Ends when the stranger must go; `None`: it is none any more.
    leave: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Who is told of a connection that never got through TLS; `None` without TLS.
    handshakes: Option<Arc<Refusals>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: Peer,
        leave: impl Future<Output = ()> + Send + 'static,
        handshakes: Option<Arc<Refusals>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream, peer, received: 0, leave: Some(Box::pin(leave)), handshakes, _place: place }
    }

    /// Whether the stranger may go on.
    fn poll_stranger(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.peer.welcome.load(Ordering::Relaxed) {
            self.leave = None;
        }
        let Some(leave) = &mut self.leave else { return Ok(()) };
        if self.received > STRANGERS_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a stranger sends too much"));
        }
        match leave.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.received = usize::MAX;
                Err(io::Error::new(io::ErrorKind::TimedOut, "a stranger did not introduce itself"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(refusals) = &self.handshakes
            && !self.peer.spoke.load(Ordering::Relaxed)
        {
            refusals.tell(self.peer.address, "it showed no certificate of this run's authority");
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_stranger(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.leave.is_some() {
            self.received = self.received.saturating_add(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
