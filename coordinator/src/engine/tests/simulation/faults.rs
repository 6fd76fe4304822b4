//! What goes wrong, and when.

use super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// SIGKILL: the kernel says goodbye.
    Kill(Rank),
    /// Power off: nothing but silence.
    PowerOff(Rank),
    /// Its host never comes back; the world is to be large enough without it.
    Gone(Rank),
    /// SIGSTOP.
    Freeze(Rank),
    /// SIGCONT.
    Thaw(Rank),
    /// The cable between a worker and the coordinators.
    Cut(Rank),
    /// The cable is back.
    Heal(Rank),
    /// Two workers do not hear each other.
    Split(Rank, Rank),
    /// They do again.
    Join(Rank, Rank),
    /// The coordinator is killed, between any two of its commands.
    KillCoordinator(u64),
    /// The coordinator's host is cut off from the disk, and from workers too or not; a queue starts another.
    CutCoordinator,
    /// It is back.
    HealCoordinator,
    /// A worker is told to end by somebody else.
    Leave(Rank),
    /// A person holds the run, or lets it go on.
    Pause(bool),
    /// A person stops the run, and starts it again later.
    Interrupt,
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        let ranks = u64::from(self.spec.ranks());
        for _ in 0..self.draws.below(7) {
            let at = self.draws.millis(0, CALM.as_millis() as u64 - 25_000);
            let rank = self.draws.below(ranks) as Rank;
            let other = self.draws.below(ranks) as Rank;
            let later = at + self.draws.millis(200, 25_000);
            let (fault, end) = match self.draws.below(11) {
                0 | 1 => (Fault::Kill(rank), None),
                2 if other == 0 && self.spec.min_world < self.spec.ranks() => (Fault::Gone(rank), None),
                2 => (Fault::PowerOff(rank), None),
                3 => (Fault::Freeze(rank), Some(Fault::Thaw(rank))),
                4 => (Fault::Cut(rank), Some(Fault::Heal(rank))),
                5 if rank != other => (Fault::Split(rank, other), Some(Fault::Join(rank, other))),
                5 | 6 => (Fault::KillCoordinator(self.draws.below(8)), None),
                7 => (Fault::CutCoordinator, Some(Fault::HealCoordinator)),
                8 => (Fault::Leave(rank), None),
                9 => (Fault::Interrupt, None),
                _ => (Fault::Pause(true), Some(Fault::Pause(false))),
            };
            self.put(at, What::Fault(fault));
            if let Some(end) = end {
                self.put(later, What::Fault(end));
            }
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        self.say(|| format!("FAULT {fault:?}"));
        let text = format!("{fault:?}");
        // What has no effect here is not counted.
        if !matches!(fault, Fault::CutCoordinator if self.spec.respawns) {
            self.hit(format!("fault {}", text.split('(').next().unwrap_or_default()));
        }
        match fault {
            Fault::Kill(rank) | Fault::PowerOff(rank) => {
                let seen = matches!(fault, Fault::Kill(_)) || self.spec.respawns;
                self.kill(rank, seen);
                if !self.spec.respawns {
                    let later = self.draws.millis(500, 9_000);
                    self.put(later, What::Boot(rank));
                }
                self.look_again();
            }
            Fault::Gone(rank) => {
                if self.gone.is_none() {
                    self.gone = Some(rank);
                    self.kill(rank, false);
                    self.look_again();
                }
            }
            Fault::Freeze(rank) | Fault::Thaw(rank) => {
                if let Some(worker) = self.workers.get_mut(&rank) {
                    worker.frozen = matches!(fault, Fault::Freeze(_));
                }
                self.look_again();
            }
            Fault::Cut(rank) | Fault::Heal(rank) => {
                if let Some(worker) = self.workers.get_mut(&rank) {
                    worker.cut = matches!(fault, Fault::Cut(_));
                    // What was on its way is lost, and with it the stream.
                    if worker.alive {
                        self.sever(rank);
                    }
                }
            }
            Fault::Split(a, b) => drop(self.split.insert((a.min(b), a.max(b)))),
            Fault::Join(a, b) => {
                self.split.remove(&(a.min(b), a.max(b)));
                self.look_again();
            }
            Fault::KillCoordinator(after) => {
                if let Some(i) = self.reachable() {
                    self.coordinators[i].dies_after = Some(after);
                }
            }
            Fault::CutCoordinator if !self.spec.respawns => {
                if let Some(i) = self.reachable() {
                    let workers_too = self.draws.one_in(2);
                    self.coordinators[i].cut = workers_too;
                    self.coordinators[i].diskless = true;
                    let later = self.draws.millis(1_000, 14_000);
                    self.put(later, What::Start);
                }
            }
            Fault::CutCoordinator => {}
            Fault::HealCoordinator => {
                for coordinator in &mut self.coordinators {
                    (coordinator.cut, coordinator.diskless) = (false, false);
                }
            }
            Fault::Leave(rank) => self.leave(rank),
            Fault::Interrupt => {
                if let Some(i) = self.reachable() {
                    self.event(i, Event::Interrupted);
                }
            }
            Fault::Pause(pause) => {
                for i in 0..self.coordinators.len() {
                    self.event(i, Event::Pause(pause));
                }
            }
        }
    }
}
