//! Making a world: one member hosts the rendezvous store, then all connect.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{FormEpoch, Formed, HostStore};

use super::failing::Sign;
use super::state::State;
use super::{Command, Defect, Engine, EpochRecord, Rank, Record};

/// A worker gives a world up after the coordinator did, which knows better who does not come.
const LATER: Duration = Duration::from_secs(5);

impl Engine {
    /// Enough are there: the next epoch, on disk before anybody hears of it (EP-1).
    pub(super) fn begin_forming(&mut self, now: Duration, out: &mut Vec<Command>) {
        let live = self.members.all().iter().filter(|(_, member)| member.is_live());
        let mut members: Vec<(Rank, u64)> = live.map(|(rank, member)| (*rank, member.incarnation)).collect();
        let cut = self.at.is_some_and(|at| self.is_sharded(at.stage)) && !self.cut.is_empty();
        if self.interrupted && cut {
            // All that is to come is a checkpoint: of those that the weights are cut over, and nobody beside them.
            members.retain(|(rank, _)| self.cut.iter().any(|(holder, _)| holder == rank));
        }
        // Where not all have a place, those that hold the run's state come first.
        let lacks = |rank| self.at.is_some_and(|at| !self.is_source(rank, at));
        members.sort_by_key(|(rank, _)| (lacks(*rank), *rank));
        members.truncate(self.spec.max_world as usize);
        self.world = members.iter().map(|(rank, _)| *rank).collect();
        let epoch = self.epoch + u64::from(!self.broken(Defect::EpochUsedTwice) || self.epoch == 0);
        let (members, hosts) = (members.into_iter().collect(), self.placed().into_iter().collect());
        self.journal(Record::Epoch(EpochRecord { epoch, members, hosts }), out);
        let (formed, mirrored) = (BTreeSet::new(), BTreeSet::new());
        self.state = State::Forming { deadline: now + self.spec.forming, store: false, formed, mirrored };
        self.members.restart_progress(now);
        if let Some(host) = self.world.first() {
            self.send(*host, Order::HostStore(HostStore {}), out);
        }
    }

    pub(super) fn on_store_ready(&mut self, rank: Rank, store_address: &str, out: &mut Vec<Command>) {
        let State::Forming { store, .. } = &mut self.state else { return };
        // An epoch's groups are made once.
        if self.world.first() != Some(&rank) || std::mem::replace(store, true) {
            return;
        }
        let (nodes, mirror) = (self.nodes(), self.mirror());
        for (group_rank, rank) in self.world.iter().enumerate() {
            let order = FormEpoch {
                world_size: self.world.len() as u32,
                group_rank: group_rank as u32,
                store_address: store_address.to_owned(),
                timeout_s: (self.spec.forming + LATER).as_secs() as u32,
                nodes: nodes.clone(),
                mirror,
            };
            self.send(*rank, Order::FormEpoch(order), out);
        }
    }

    /// The node of every rank of the world, in order: a number a host name, in the order of first ranks.
    pub(super) fn nodes(&self) -> Vec<u32> {
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

    pub(super) fn on_formed(
        &mut self,
        now: Duration,
        rank: Rank,
        Formed { held, mirrored: has_mirror }: Formed,
        out: &mut Vec<Command>,
    ) {
        let State::Forming { formed, mirrored, .. } = &mut self.state else { return };
        if !formed.insert(rank) {
            return;
        }
        if has_mirror {
            mirrored.insert(rank);
        }
        let complete = formed.len() == self.world.len();
        self.members.holds(rank, held);
        if complete {
            self.restore(now, out);
        }
    }

    /// The deadline passed with somebody not connected.
    pub(super) fn fail_forming(&mut self, now: Duration, out: &mut Vec<Command>) {
        let State::Forming { formed, store, .. } = &self.state else { return };
        // Who waits for the others says so, and so may the one that they wait for. If it has said so since the world
        // before, its work did not advance in this one, and theirs did; else nothing tells it from them.
        let waits = |rank: &Rank| {
            let member = self.members.live(*rank);
            let waits = member.is_some_and(|member| member.phase == "forming" && *store);
            (waits, member.map(|member| member.advanced).filter(|_| waits), *rank)
        };
        let missing = self.world.difference(formed);
        let Some(missing) = missing.min_by_key(|rank| waits(rank)).copied() else { return };
        self.suspect(now, missing, Sign::Unconnected(self.spec.forming), out);
    }
}
