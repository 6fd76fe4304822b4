//! The rendezvous store: where the ranks of an epoch find each other.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shim::{StoreHandle, Typed as _};
use crate::{Error, Operation, Patience, Result};

/// How long the host's own client may take to reach the server in the same process.
const HOSTING: Duration = Duration::from_secs(10);

/// A key-value store over TCP, hosted by one member of the epoch; it lives as long as the host's `Store`.
///
/// Groups of later epochs form on the same store.
#[derive(Debug)]
pub struct Store {
    handle: Arc<StoreHandle>,
    address: SocketAddr,
}

impl Store {
    /// Serves on `address`, an address of this host that the other members can reach; port 0 lets the system
    /// choose. Returns the store and where it listens.
    ///
    /// # Errors
    /// `Unsupported` where the address cannot be bound, `Internal` where libtorch cannot serve there.
    pub fn host(address: SocketAddr) -> Result<(Self, SocketAddr)> {
        let unbound = |error: std::io::Error| Error::Unsupported {
            what: format!(
                "the store cannot listen on {address}: {error}; give an address of this host and a free port, or port 0"
            ),
        };
        let listener = TcpListener::bind(address).map_err(unbound)?;
        let address = listener.local_addr().map_err(unbound)?;
        let start = Instant::now();
        let handle = StoreHandle::host(OwnedFd::from(listener), address, HOSTING)
            .typed(|| Error::Timeout { operation: Operation::Connect, waited: start.elapsed() })?;
        Ok((Self { handle: Arc::new(handle), address }, address))
    }

    /// Connects to the store at `address`, trying as long as `patience` says (whole seconds, at least one).
    ///
    /// # Errors
    /// `Timeout` where nothing answers, `PeerLost` where the connection breaks, `Closed` after an abort.
    pub fn connect(address: SocketAddr, patience: impl Into<Patience>) -> Result<Self> {
        let handle = patience.into().apart(Operation::Connect, move |patience| {
            let start = Instant::now();
            StoreHandle::connect(address, patience.timeout().max(Duration::from_secs(1)))
                .typed(|| Error::Timeout { operation: Operation::Connect, waited: start.elapsed() })
        })?;
        Ok(Self { handle: Arc::new(handle), address })
    }

    /// Where the store listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection itself, which a forming that was left behind may still use.
    pub(crate) fn handle(&self) -> Arc<StoreHandle> {
        Arc::clone(&self.handle)
    }
}
