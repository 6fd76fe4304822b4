//! Light workers: a state that is a number, a job at a time, a stream that comes and goes.

use proto::v1::restore::Source as From;
use proto::v1::{CollectiveFailed, Heartbeat, Held, Mirrored, Prepared, Restored};

use super::check::Told;
use super::*;

/// Weights before the first step.
pub(super) const FRESH: u64 = 7;

/// Weights after a step that was committed by an attempt: what is done again is not the same to the last bit.
pub(super) fn after(weights: u64, (step, attempt): (u64, u32)) -> u64 {
    Draws(weights ^ step.rotate_left(32) ^ u64::from(attempt)).next()
}

/// What the ranks of a world hold, their weights, and whether they have what another owns.
type Sources = BTreeMap<Rank, (Option<Held>, u64, bool)>;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) process: u32,
    pub(super) alive: bool,
    pub(super) frozen: bool,
    /// Its host cannot reach the coordinators.
    pub(super) cut: bool,
    /// Coordinator and incarnation of its stream.
    stream: Option<(usize, u64)>,
    /// The introduction that is under way.
    joining: Option<u64>,
    term: u64,
    epoch: u64,
    pub(super) held: Option<Held>,
    pub(super) weights: u64,
    /// It has what another rank owns.
    mirrored: bool,
    /// Of the rank so many places back.
    mirror: usize,
    orders: VecDeque<(u64, u64, Order)>,
    /// What it does now: the job's number, its order, whether its time is over.
    job: Option<(u64, u64, u64, Order, bool)>,
    jobs: u64,
    /// The epoch of its group; none after an abort.
    group: Option<u64>,
    arrived: Duration,
}

impl World {
    pub(super) fn boot(&mut self, rank: Rank) {
        if self.gone == Some(rank) || self.workers.get(&rank).is_some_and(|w| w.alive) {
            return;
        }
        self.processes += 1;
        let process = self.processes;
        self.say(|| format!("rank {rank} begins as process {process}"));
        let worker = Worker {
            process,
            alive: true,
            frozen: false,
            cut: false,
            stream: None,
            joining: None,
            term: 0,
            epoch: 0,
            held: None,
            weights: FRESH,
            mirrored: false,
            mirror: 0,
            orders: VecDeque::new(),
            job: None,
            jobs: 0,
            group: None,
            arrived: self.now,
        };
        self.workers.insert(rank, worker);
        self.put(Duration::from_millis(10), What::Seek { rank, process });
    }

    /// Its process ends; whoever watches it hears of it. Without `seen` nobody does.
    pub(super) fn kill(&mut self, rank: Rank, seen: bool) {
        let Some(worker) = self.workers.get_mut(&rank).filter(|w| w.alive) else { return };
        worker.alive = false;
        let (process, stream, cut) = (worker.process, worker.stream.take(), worker.cut);
        self.say(|| format!("rank {rank} (process {process}) ends"));
        let Some(i) = self.coordinators.len().checked_sub(1) else { return };
        let soon = self.draws.millis(1, 300);
        if let Some((i, incarnation)) = stream
            && seen
            && !cut
        {
            let event = Event::Disconnected { rank, incarnation, reason: "reset".into() };
            self.put(soon, What::Event(i, event));
        }
        if self.spec.respawns && seen {
            let later = self.draws.millis(1, 300);
            let event = Event::Exited { rank, process, exit: Exit::Signal(9), last_lines: vec![] };
            self.put(later, What::Event(i, event));
        }
    }

    pub(super) fn seek(&mut self, rank: Rank, process: u32) {
        let found = self.reachable();
        let Some(worker) = self.workers.get_mut(&rank).filter(|w| w.alive && w.process == process) else {
            return;
        };
        let idle = worker.stream.is_none() && worker.joining.is_none() && !worker.frozen && !worker.cut;
        if let Some(i) = found.filter(|i| idle && self.coordinators[*i].term >= worker.term) {
            self.count += 1;
            let stream = self.count;
            worker.joining = Some(stream);
            worker.orders.clear();
            worker.job = None;
            worker.group = None;
            let join = Join {
                process,
                run_id: if worker.held.is_some() { "test".into() } else { String::new() },
                held: worker.held,
                ..join("1", rank)
            };
            self.put(Duration::from_millis(5), What::Event(i, Event::Joining { stream, rank, join }));
        }
        let again = self.draws.millis(300, 800);
        self.put(again, What::Seek { rank, process });
    }

    pub(super) fn admitted(&mut self, i: usize, stream: u64, rank: Rank, incarnation: u64) {
        let term = self.coordinators[i].term;
        let gone = match self.workers.get_mut(&rank).filter(|w| w.alive && w.joining == Some(stream)) {
            Some(worker) => {
                worker.joining = None;
                worker.stream = Some((i, incarnation));
                worker.term = term;
                false
            }
            None => true,
        };
        if gone {
            let event = Event::Disconnected { rank, incarnation, reason: "it is gone already".into() };
            self.put(Duration::from_millis(5), What::Event(i, event));
        }
    }

    pub(super) fn refused(&mut self, stream: u64) {
        for worker in self.workers.values_mut().filter(|w| w.joining == Some(stream)) {
            worker.joining = None;
        }
    }

    /// A coordinator is gone: its streams end.
    pub(super) fn streams_break(&mut self, i: usize) {
        for worker in self.workers.values_mut() {
            worker.joining = None;
            worker.stream.take_if(|(of, _)| *of == i);
        }
    }

    pub(super) fn closed(&mut self, rank: Rank, incarnation: u64) {
        if let Some(worker) = self.workers.get_mut(&rank) {
            worker.stream.take_if(|(_, own)| *own == incarnation);
        }
    }

    pub(super) fn beat(&mut self) {
        for rank in 0..self.spec.ranks() {
            let beat = Heartbeat { phase: "work".into(), progress: 0 };
            self.report(rank, Report::Heartbeat(beat), (0, 0));
        }
    }

    /// Says something, under the stamp of the order that it answers.
    fn report(&mut self, rank: Rank, body: Report, (term, epoch): (u64, u64)) {
        let at = self.now + self.draws.millis(1, 60);
        let Some(worker) = self.workers.get_mut(&rank) else { return };
        let Some((i, incarnation)) = worker.stream else { return };
        if !worker.alive || worker.frozen || worker.cut || self.coordinators[i].cut {
            return;
        }
        let term = if term == 0 { worker.term } else { term };
        let at = at.max(worker.arrived);
        worker.arrived = at;
        if let Report::StepReady(ready) = &body {
            self.journals.prepared.insert((incarnation, ready.step, ready.attempt));
        }
        let event = Event::Message { sender: Sender { rank, incarnation, epoch, term }, body };
        if self.draws.one_in(12) {
            let late = self.draws.millis(1, 3_000);
            self.put_at(at + late, What::Event(i, event.clone()));
        }
        self.put_at(at, What::Event(i, event));
    }

    pub(super) fn order(&mut self, rank: Rank, incarnation: u64, term: u64, epoch: u64, body: Order) {
        let Some(worker) = self.workers.get_mut(&rank) else { return };
        let ours = worker.stream.is_some_and(|(i, own)| own == incarnation && !self.coordinators[i].cut);
        if !worker.alive || worker.cut || !ours || term < worker.term {
            return;
        }
        (worker.term, worker.epoch) = (term, epoch);
        if let Order::AbortCollectives(_) = body {
            worker.group = None;
            worker.orders.retain(|(_, of, order)| *of > epoch || !waits_for_others(order));
            if let Some((_, term, epoch, order, _)) =
                worker.job.take_if(|(_, _, _, order, _)| waits_for_others(order))
            {
                let failed = CollectiveFailed { reason: format!("{} was aborted", named(&order)) };
                self.report(rank, Report::CollectiveFailed(failed), (term, epoch));
            }
        } else {
            worker.orders.push_back((term, epoch, body));
        }
        self.take_up(rank);
    }

    /// Begins the next order, if nothing is under way.
    fn take_up(&mut self, rank: Rank) {
        let time = self.draws.millis(5, 900);
        let Some(worker) = self.workers.get_mut(&rank).filter(|w| w.alive && !w.frozen && w.job.is_none())
        else {
            return;
        };
        let Some((term, epoch, order)) = worker.orders.pop_front() else { return };
        let (held, process) = (worker.held, worker.process);
        worker.jobs += 1;
        let job = worker.jobs;
        if let Order::FormEpoch(_) = order {
            worker.group = None;
        }
        worker.job = Some((job, term, epoch, order.clone(), false));
        self.check_work(rank, held, &order);
        let quick = matches!(order, Order::Discard(_) | Order::HostStore(_));
        let time = if quick { Duration::from_millis(2) } else { time };
        self.put(time, What::Done { rank, process, job });
    }

    pub(super) fn done(&mut self, rank: Rank, process: u32, number: u64) {
        let Some(worker) = self.workers.get_mut(&rank).filter(|w| w.alive && w.process == process) else {
            return;
        };
        let Some((job, .., over)) = &mut worker.job else { return };
        if *job != number {
            return;
        }
        *over = true;
        if !self.dies_of_its_share(rank) {
            self.settle(rank);
        }
    }

    /// Whether what a worker has under way holds the sample on which workers die, or fail where nobody would start them
    /// again.
    fn dies_of_its_share(&mut self, rank: Rank) -> bool {
        let Some(worker) = self.workers.get(&rank).filter(|worker| !worker.frozen) else { return false };
        let Some((_, term, epoch, order, true)) = &worker.job else { return false };
        let stamp = (*term, *epoch);
        let Some((poison, in_updates)) = &self.poison else { return false };
        let held = match order {
            Order::Rollout(order) => !in_updates && order.samples.iter().any(|sample| sample.id == *poison),
            Order::Update(order) => {
                order.items.iter().filter_map(|item| item.sample.as_ref()).any(|sample| sample.id == *poison)
            }
            _ => false,
        };
        if held && self.spec.respawns {
            self.hit("a worker dies on a sample");
            self.kill(rank, true);
        } else if held && self.draws.one_in(2) {
            self.hit("a worker dies on a sample, and nobody sees its exit");
            self.kill(rank, true);
            let later = self.draws.millis(500, 3_000);
            self.put(later, What::Boot(rank));
        } else if held {
            self.hit("a worker fails on a sample");
            self.finish_job(rank);
            let failed = proto::v1::WorkFailed { reason: "out of memory".into(), wrong_input: false };
            self.report(rank, Report::WorkFailed(failed), stamp);
        }
        held
    }

    /// Ends the job whose time is over, if nobody else has to do his part first.
    fn settle(&mut self, rank: Rank) {
        let Some(worker) = self.workers.get(&rank).filter(|w| w.alive && !w.frozen) else { return };
        let Some((_, term, epoch, order, true)) = worker.job.clone() else { return };
        if waits_for_others(&order) {
            let Some(peers) = self.peers(rank, epoch) else { return };
            let dead = peers.iter().any(|p| self.workers.get(p).is_none_or(|w| !w.alive));
            let split = peers.iter().any(|p| self.split.contains(&(rank.min(*p), rank.max(*p))));
            let there = |p: &Rank| {
                self.workers.get(p).and_then(|w| w.job.as_ref()).is_some_and(|(_, t, e, o, over)| {
                    (*t, *e, *over) == (term, epoch, true) && named(o) == named(&order)
                })
            };
            if !peers.iter().all(there) || split {
                if dead && !matches!(order, Order::FormEpoch(_)) {
                    self.finish_job(rank);
                    let failed = CollectiveFailed { reason: "a peer is gone".into() };
                    self.report(rank, Report::CollectiveFailed(failed), (term, epoch));
                }
                return;
            }
            // All are there: they end together.
            let source = |p: &Rank| self.workers.get(p).map(|w| (*p, (w.held, w.weights, w.mirrored)));
            let sources: Sources = peers.iter().filter_map(source).collect();
            for peer in peers {
                let Some((_, term, epoch, order, _)) = self.workers.get(&peer).and_then(|w| w.job.clone())
                else {
                    continue;
                };
                self.finish_job(peer);
                self.do_it(peer, &order, (term, epoch), &sources);
            }
            return;
        }
        self.finish_job(rank);
        self.do_it(rank, &order, (term, epoch), &BTreeMap::new());
    }

    fn finish_job(&mut self, rank: Rank) {
        if let Some(worker) = self.workers.get_mut(&rank) {
            worker.job = None;
        }
        self.put(Duration::from_millis(1), What::Done { rank, process: 0, job: 0 });
        self.take_up(rank);
    }

    /// The ranks of an epoch, by the newest journal that has it.
    fn peers(&self, rank: Rank, epoch: u64) -> Option<Vec<Rank>> {
        let records = self.journals.files.iter().rev().flat_map(|(_, records)| records);
        let members = records.filter_map(|r| match r {
            Record::Epoch(e) if e.epoch == epoch => Some(e.members.keys().copied().collect::<Vec<_>>()),
            _ => None,
        });
        members.into_iter().find(|members| members.contains(&rank))
    }

    fn do_it(&mut self, rank: Rank, order: &Order, stamp: (u64, u64), sources: &Sources) {
        let Some(worker) = self.workers.get_mut(&rank) else { return };
        let report = match order {
            Order::FormEpoch(form) => {
                worker.group = Some(stamp.1);
                if worker.mirror != form.mirror as usize {
                    (worker.mirror, worker.mirrored) = (form.mirror as usize, false);
                }
                let mirrored = worker.held.is_some() && worker.mirrored;
                Some(Report::Formed(Formed { held: worker.held, mirrored }))
            }
            Order::BeginStage(begin) => {
                worker.mirrored = false;
                if !begin.weights.is_empty() {
                    worker.weights = FRESH;
                }
                let held = worker.held.filter(|_| begin.weights.is_empty()).unwrap_or_default();
                worker.held = Some(Held { stage: begin.stage, prepared: None, ..held });
                let digest = worker.weights.to_string();
                Some(Report::StageReady(StageReady { stage: begin.stage, digest, part: None }))
            }
            Order::Update(update) => {
                if let Some(held) = &mut worker.held {
                    held.prepared = Some(Prepared { step: update.step, attempt: update.attempt });
                    worker.mirrored = worker.mirror > 0;
                }
                obey(order)
            }
            Order::Commit(commit) => {
                let held = worker.held.unwrap_or_default();
                let prepared =
                    held.prepared.is_some_and(|p| (p.step, p.attempt) == (commit.step, commit.attempt));
                if held.step != commit.step && !prepared {
                    let what = format!("rank {rank} holds {held:?} and is told to commit {commit:?}");
                    return self.violate("CO-1", || what);
                }
                if held.step != commit.step {
                    let (step, attempt) = (commit.step, commit.attempt);
                    worker.weights = after(worker.weights, (step, attempt));
                    worker.held = Some(Held { step, prepared: None, attempt, ..held });
                }
                let digest = worker.weights.to_string();
                Some(Report::Applied(Applied { step: commit.step, digest, part: None }))
            }
            Order::Discard(discard) => {
                if let Some(held) = &mut worker.held {
                    held.prepared.take_if(|p| p.step == discard.step);
                }
                None
            }
            Order::Restore(restore) => {
                let (stage, step) = (restore.stage, restore.step);
                let gives = match &restore.source {
                    Some(From::Member(group_rank)) => sources.iter().nth(*group_rank as usize),
                    Some(From::Mirrored(Mirrored { lost })) => {
                        let place = sources.keys().position(|of| *of == rank).unwrap_or(0);
                        let is_lost = lost.contains(&(place as u32));
                        let from = if is_lost { (place + worker.mirror) % sources.len() } else { place };
                        sources.iter().nth(from).filter(|(_, (_, _, mirrored))| !is_lost || *mirrored)
                    }
                    _ => None,
                };
                let from = match (&restore.source, gives) {
                    (Some(From::Checkpoint(_)), _) => {
                        let told = Told::by(self.journals.newest());
                        told.steps
                            .iter()
                            .filter(|s| s.step <= step)
                            .fold(FRESH, |w, s| after(w, (s.step, s.attempt)))
                    }
                    (_, Some((_, (Some(held), weights, _)))) if (held.stage, held.step) == (stage, step) => {
                        *weights
                    }
                    (source, gives) => {
                        let what =
                            format!("step {step} of stage {stage} is to come from {source:?}: {gives:?}");
                        return self.violate("RC-2", || what);
                    }
                };
                worker.mirrored &= worker.held.is_some() && matches!(restore.source, Some(From::Mirrored(_)));
                worker.weights = from;
                worker.held = Some(Held { stage, step, prepared: None, attempt: restore.attempt });
                let digest = worker.weights.to_string();
                Some(Report::Restored(Restored { stage, step, digest, part: None, sent: 0 }))
            }
            _ => obey(order),
        };
        if let Some(report) = report {
            self.report(rank, report, stamp);
        }
        if let Order::Stop(_) = order {
            self.kill(rank, false);
            if !self.spec.respawns {
                let later = self.draws.millis(500, 9_000);
                self.put(later, What::Boot(rank));
            }
        }
    }

    /// A fault is over: what waits for others looks again.
    pub(super) fn look_again(&mut self) {
        for rank in 0..self.spec.ranks() {
            self.settle(rank);
            self.take_up(rank);
        }
    }
}

/// Whether an order needs every member of its epoch at once.
fn waits_for_others(order: &Order) -> bool {
    matches!(order, Order::FormEpoch(_) | Order::Update(_) | Order::Restore(_))
}

impl World {
    /// A worker's stream breaks without a word to the coordinator.
    pub(super) fn sever(&mut self, rank: Rank) {
        if let Some(worker) = self.workers.get_mut(&rank) {
            worker.stream = None;
            worker.joining = None;
        }
    }

    /// A worker says that it was told to end, and is started again later.
    pub(super) fn leave(&mut self, rank: Rank) {
        let leaving = proto::v1::Leaving { seconds: 30 };
        self.report(rank, Report::Leaving(leaving), (0, 0));
    }
}
