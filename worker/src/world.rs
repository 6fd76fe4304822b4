//! This worker's place in an epoch: the rendezvous store that it may host, and the group it computes in.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use collective::{Bind, GlooGroup, Group, Patience, Store};
use proto::v1::FormEpoch;
use tch::Device;

use crate::control::Control;

/// The store and the group of the current epoch.
pub struct World {
    address: String,
    device: Device,
    control: Control,
    /// The one that this worker hosts, and the address that it was announced by.
    hosted: Option<(String, Store)>,
    /// The epoch's, where another member hosts it.
    store: Option<Store>,
    group: Option<Box<dyn Group>>,
    /// How many places on another rank keeps what this one owns.
    mirror: usize,
}

impl World {
    /// Binds whatever it opens to `address` alone; tensors lie on `device`; `control` ends its waits.
    #[must_use]
    pub fn new(address: String, device: Device, control: Control) -> Self {
        Self { address, device, control, hosted: None, store: None, group: None, mirror: 0 }
    }

    /// Hosts a rendezvous store and says where it listens.
    ///
    /// # Errors
    /// If the address is not one of this host's.
    pub fn host_store(&mut self) -> Result<String, String> {
        let address = resolve(&self.address, 0)?;
        let (store, bound) = Store::host(address).map_err(|e| e.to_string())?;
        let bound = bound.to_string();
        self.hosted = Some((bound.clone(), store));
        Ok(bound)
    }

    /// Joins the epoch's group on behalf of the order `number`, leaving the last one; with `by_node` also groups
    /// within and across nodes. An abort of that order ends it within 100 ms.
    ///
    /// # Errors
    /// If the store cannot be reached, a peer does not come in time, or the order is aborted.
    pub fn form(&mut self, number: u64, epoch: u64, order: &FormEpoch, by_node: bool) -> Result<(), String> {
        self.leave();
        self.mirror = order.mirror as usize;
        let patience = Patience::new(Duration::from_secs(u64::from(order.timeout_s)));
        if !self.control.arm(number, patience.aborter()) {
            return Err("the forming was aborted before it began".to_string());
        }
        // Every epoch names its store: the last one's may have died with its host.
        self.hosted = self.hosted.take().filter(|(address, _)| *address == order.store_address);
        if self.hosted.is_none() {
            let (host, port) =
                order.store_address.rsplit_once(':').ok_or("the store's address has no port")?;
            let port = port.parse().map_err(|_| format!("the store's port \"{port}\" is not a number"))?;
            let store = Store::connect(resolve(host, port)?, patience.clone()).map_err(|e| e.to_string())?;
            self.store = Some(store);
        }
        let hosted = self.hosted.as_ref().map(|(_, store)| store);
        let store = hosted.or(self.store.as_ref()).ok_or("no store")?;
        let (rank, world) = (order.group_rank as usize, order.world_size as usize);
        let nodes = (by_node && order.nodes.len() == world).then_some(order.nodes.as_slice());
        let group = match self.device {
            Device::Cuda(device) => nccl(store, epoch, (rank, world), nodes, device, &patience)?,
            _ => {
                let bind = Bind::Host(self.address.clone());
                gloo(store, epoch, (rank, world), nodes, &bind, &patience).map_err(|e| e.to_string())?
            }
        };
        if !self.control.arm(number, group.aborter()) {
            return Err("the forming was aborted".to_string());
        }
        self.group = Some(group);
        Ok(())
    }

    /// The current group.
    ///
    /// # Errors
    /// If no epoch has been formed.
    pub fn group(&self) -> Result<&dyn Group, String> {
        self.group.as_deref().ok_or_else(|| "work was ordered before an epoch was formed".to_string())
    }

    /// How many places on in the current epoch another rank keeps what this one owns; 0: nobody does.
    #[must_use]
    pub fn mirror(&self) -> usize {
        self.mirror
    }

    /// Shuts the group's sockets, which ends whatever still waits on them.
    pub fn leave(&mut self) {
        self.control.disarm();
        self.store = None;
        if let Some(group) = self.group.take() {
            group.shutdown();
        }
    }
}

fn gloo(
    store: &Store,
    epoch: u64,
    (rank, world): (usize, usize),
    nodes: Option<&[u32]>,
    bind: &Bind,
    patience: &Patience,
) -> collective::Result<Box<dyn Group>> {
    Ok(match nodes {
        Some(nodes) => {
            Box::new(GlooGroup::form_over_nodes(store, epoch, rank, nodes, bind, patience.clone())?)
        }
        None => Box::new(GlooGroup::form(store, epoch, rank, world, bind, patience.clone())?),
    })
}

#[cfg(feature = "nccl")]
fn nccl(
    store: &Store,
    epoch: u64,
    (rank, world): (usize, usize),
    nodes: Option<&[u32]>,
    device: usize,
    patience: &Patience,
) -> Result<Box<dyn Group>, String> {
    use collective::NcclGroup;
    let group: collective::Result<Box<dyn Group>> = match nodes {
        Some(nodes) => NcclGroup::form_over_nodes(store, epoch, rank, nodes, device, patience.clone())
            .map(|group| Box::new(group) as Box<dyn Group>),
        None => NcclGroup::form(store, epoch, rank, world, device, patience.clone())
            .map(|group| Box::new(group) as Box<dyn Group>),
    };
    group.map_err(|e| e.to_string())
}

#[cfg(not(feature = "nccl"))]
fn nccl(
    _: &Store,
    _: u64,
    (_, world): (usize, usize),
    _: Option<&[u32]>,
    device: usize,
    _: &Patience,
) -> Result<Box<dyn Group>, String> {
    if world == 1 {
        return Ok(Box::new(collective::LocalGroup::alone()));
    }
    Err(format!(
        "GPU {device} needs NCCL to meet {} others, and this worker was built without: build it with --features worker/nccl",
        world - 1
    ))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    (host, port)
        .to_socket_addrs()
        .map_err(|e| format!("{host} is not an address: {e}"))?
        .next()
        .ok_or_else(|| format!("{host} has no address"))
}
