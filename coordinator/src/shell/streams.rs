//! Which stream is whose: ranks and incarnations to streams and back.

use std::collections::BTreeMap;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{CoordinatorMessage, WorkerMessage};
use settings::Run;

use crate::engine::{Event, Rank, Sender, Spec};
use crate::server::Orders;

type Name = (Rank, u64);

/// The open streams.
pub(super) struct Streams {
    pub(super) run_id: String,
    pub(super) run_json: String,
    /// What the run folder is known by.
    pub(super) mark: String,
    pub(super) heartbeat_ms: u32,
    term: u64,
    /// Introduced, not admitted yet.
    strangers: BTreeMap<u64, Orders>,
    orders: BTreeMap<Name, Orders>,
    names: BTreeMap<u64, Name>,
}

impl Streams {
    pub(super) fn new(spec: &Spec, run: &Run, mark: String) -> Self {
        Self {
            run_id: spec.run_id.clone(),
            // Plain settings: nothing that JSON cannot hold.
            run_json: serde_json::to_string(run).unwrap_or_default(),
            mark,
            heartbeat_ms: u32::try_from(spec.heartbeat.as_millis()).unwrap_or(u32::MAX),
            term: spec.term,
            strangers: BTreeMap::new(),
            orders: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    pub(super) fn open(&mut self, stream: u64, orders: Orders) {
        self.strangers.insert(stream, orders);
    }

    pub(super) fn admit(&mut self, stream: u64, rank: Rank, incarnation: u64, welcome: Order) {
        // A rank has one stream: an older one is heard no more.
        self.names.retain(|_, (known, _)| *known != rank);
        self.orders.retain(|(known, _), _| *known != rank);
        if let Some(orders) = self.strangers.remove(&stream) {
            self.names.insert(stream, (rank, incarnation));
            self.orders.insert((rank, incarnation), orders);
            self.send(rank, incarnation, 0, welcome);
        }
    }

    pub(super) fn refuse(&mut self, stream: u64, refused: Order) {
        if let Some(orders) = self.strangers.remove(&stream) {
            // The channel is new and empty: it has room. Dropping it ends the stream behind the message.
            let _ =
                orders.try_send(Ok(CoordinatorMessage { term: self.term, epoch: 0, body: Some(refused) }));
        }
    }

    /// Sends an order. A worker that is gone, or that leaves its orders unread, is lost: that comes back.
    pub(super) fn send(&mut self, rank: Rank, incarnation: u64, epoch: u64, body: Order) -> Option<Event> {
        let name = (rank, incarnation);
        let message = CoordinatorMessage { term: self.term, epoch, body: Some(body) };
        let refused = self.orders.get(&name)?.try_send(Ok(message)).err()?;
        self.orders.remove(&name);
        let reason = match refused {
            tokio::sync::mpsc::error::TrySendError::Full(_) => "it does not read its orders",
            tokio::sync::mpsc::error::TrySendError::Closed(_) => "its stream is closed",
        };
        Some(Event::Disconnected { rank, incarnation, reason: reason.into() })
    }

    /// Ends a stream behind what was sent.
    pub(super) fn end(&mut self, rank: Rank, incarnation: u64) {
        self.orders.remove(&(rank, incarnation));
    }

    /// What a stream's message is to the engine. The stream says who it is, whatever the message says.
    pub(super) fn event_of(&self, stream: u64, message: WorkerMessage) -> Option<Event> {
        let (rank, incarnation) = *self.names.get(&stream)?;
        let WorkerMessage { rank: named, incarnation: numbered, epoch, term, body } = message;
        if (named, numbered) != (rank, incarnation) {
            return None;
        }
        Some(Event::Message { sender: Sender { rank, incarnation, epoch, term }, body: body? })
    }

    /// A stream ended.
    pub(super) fn close(&mut self, stream: u64, reason: String) -> Option<Event> {
        self.strangers.remove(&stream);
        let (rank, incarnation) = self.names.remove(&stream)?;
        self.orders.remove(&(rank, incarnation));
        Some(Event::Disconnected { rank, incarnation, reason })
    }
}
