//! Making a world: one member hosts the rendezvous store, then all connect.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{FormEpoch, HostStore};

use super::state::State;
use super::{Activity, Command, Engine, EpochRecord, Rank, Record};

impl Engine {
    /// Everybody is there: the next epoch, on disk before anybody hears of it.
    pub(super) fn begin_forming(&mut self, now: Duration, out: &mut Vec<Command>) {
        self.epoch += 1;
        self.world = (0..self.spec.world_size()).collect();
        let members = self.members.all().iter().map(|(rank, m)| (*rank, m.incarnation)).collect();
        out.push(Command::Journal(Record::Epoch(EpochRecord { epoch: self.epoch, members })));
        self.state = State::Forming { deadline: now + self.spec.forming, formed: BTreeSet::new() };
        if let Some(host) = self.world.first() {
            self.send(*host, Order::HostStore(HostStore {}), out);
        }
    }

    pub(super) fn on_store_ready(&mut self, rank: Rank, store_address: &str, out: &mut Vec<Command>) {
        if !matches!(self.state, State::Forming { .. }) || self.world.first() != Some(&rank) {
            return;
        }
        let nodes = self.nodes();
        for (group_rank, rank) in self.world.iter().enumerate() {
            let order = FormEpoch {
                world_size: self.world.len() as u32,
                group_rank: group_rank as u32,
                store_address: store_address.to_owned(),
                timeout_s: self.spec.forming.as_secs().max(1) as u32,
                nodes: nodes.clone(),
            };
            self.send(*rank, Order::FormEpoch(order), out);
        }
    }

    /// The node of every rank of the world, in order: a number a host name, in the order of first ranks.
    fn nodes(&self) -> Vec<u32> {
        let mut known: Vec<&str> = Vec::new();
        let mut node = |rank: &Rank| {
            let host = self.members.live(*rank).map_or("", |member| member.host.as_str());
            let number = known.iter().position(|name| *name == host).unwrap_or(known.len());
            if number == known.len() {
                known.push(host);
            }
            number as u32
        };
        self.world.iter().map(&mut node).collect()
    }

    pub(super) fn on_formed(&mut self, now: Duration, rank: Rank, out: &mut Vec<Command>) {
        let State::Forming { formed, .. } = &mut self.state else { return };
        formed.insert(rank);
        if formed.len() < self.world.len() {
            return;
        }
        for rank in &self.world {
            self.members.activate(*rank);
        }
        self.start(now, Activity::first(&self.spec.stages), out);
    }

    /// The deadline passed with somebody not connected.
    pub(super) fn fail_forming(&mut self, now: Duration, out: &mut Vec<Command>) {
        let State::Forming { formed, .. } = &self.state else { return };
        let missing =
            self.world.difference(formed).map(|r| format!("rank {r} (host {})", self.spec.host(*r)));
        let reason = format!(
            "the workers' groups did not form within {} s; not connected: {}. Is their address in the host file \
             reachable from the other hosts?",
            self.spec.forming.as_secs(),
            missing.collect::<Vec<_>>().join(", ")
        );
        self.fail(now, reason, 1, out);
    }
}
