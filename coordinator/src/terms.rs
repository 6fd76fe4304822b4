//! Who may speak for a run: terms, claimed by creating `terms/N` exclusively in the run folder.
//!
//! A coordinator renews its term's lease while it lives. Another one that wants the folder waits until the lease has
//! run out by its own clock (no clock is compared between hosts; a process of this host that is gone is seen at once),
//! then claims the next term. From then on the first can change nothing: before each record it looks whether a later
//! term is there, and it stops by itself where it could not renew for as long as a lease (TM-1).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a term that is not renewed keeps others out.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long its holder may write without having renewed it: less, so that what it began by then is done when another
/// takes over.
const HOLD: Duration = Duration::from_secs(7);
/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(2);

/// Why a term cannot be had, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum TermError {
    /// Another coordinator lives.
    #[error("{}: another coordinator holds it ({holder}): wait for it to end, or choose another --output", folder.display())]
    Held {
        /// The run folder.
        folder: PathBuf,
        /// `process P on H, …`.
        holder: String,
    },
    /// A later term was claimed.
    #[error(
        "another coordinator has taken over this run ({holder}): term {newest} follows our {own}; this one changes nothing any more"
    )]
    Superseded {
        /// Ours.
        own: u64,
        /// The newest.
        newest: u64,
        /// Who has it.
        holder: String,
    },
    /// The lease could not be renewed in time.
    #[error("{}: the term's lease could not be renewed for {} s: another coordinator may have taken over, so this one stops", path.display(), HOLD.as_secs())]
    Expired {
        /// The lease.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: {source}; expected a folder that can be written to", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A claimed term. `now` is everywhere the time since the coordinator's start.
#[derive(Debug)]
pub struct Term {
    number: u64,
    folder: PathBuf,
    owner: String,
    renewals: u64,
    renewed: Duration,
}

/// Whether a coordinator of term `own` may still write where `newest` is the newest term there is and its lease was
/// last renewed `since` ago.
#[must_use]
pub fn may_write(own: u64, newest: u64, since: Duration) -> bool {
    newest <= own && since < HOLD
}

/// A coordinator that wants to speak for a run.
#[derive(Debug)]
pub struct Claimant {
    run: PathBuf,
    terms: PathBuf,
    owner: String,
    /// The newest term's lease as it was first seen, and when.
    seen: Option<(u64, Lease, Duration)>,
}

impl Claimant {
    /// Who wants the run in `folder`; `owner` is a line for people, and begins with `process P on H`.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn new(folder: &Path, owner: &str) -> Result<Self, TermError> {
        let terms = folder.join("terms");
        fs::create_dir_all(&terms).map_err(io_error(&terms))?;
        Ok(Self { run: folder.to_owned(), terms, owner: owner.to_owned(), seen: None })
    }

    /// Claims the term after the newest; `None`: the newest one's holder may live, look again in a moment.
    ///
    /// # Errors
    /// If another coordinator lives, or the file system refuses.
    pub fn claim(&mut self, now: Duration) -> Result<Option<Term>, TermError> {
        let newest = newest(&self.terms)?;
        if newest > 0 && !self.has_outlived(newest, now)? {
            return Ok(None);
        }
        let path = self.terms.join((newest + 1).to_string());
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => {
                let (folder, owner) = (self.terms.clone(), self.owner.clone());
                let mut term = Term { number: newest + 1, folder, owner, renewals: 0, renewed: now };
                term.write(now)?;
                Ok(Some(term))
            }
            // Somebody was faster: look at it as at any other holder.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(io_error(&path)(e)),
        }
    }

    /// Whether the holder of `term` is known to be gone, or its lease has run out under our eyes.
    fn has_outlived(&mut self, term: u64, now: Duration) -> Result<bool, TermError> {
        let lease = read(&self.terms.join(term.to_string()));
        let owner = &lease.owner;
        if owner == "nobody" || is_gone(owner, &self.owner) || is_requeued(owner, &self.owner) {
            return Ok(true);
        }
        match &self.seen {
            _ if is_here(owner, &self.owner) => {}
            Some((seen, first, _)) if *seen == term && *first != lease => {}
            Some((seen, _, since)) if *seen == term => return Ok(now.saturating_sub(*since) >= LEASE),
            _ => {
                self.seen = Some((term, lease, now));
                return Ok(false);
            }
        }
        Err(TermError::Held { folder: self.run.clone(), holder: lease.owner })
    }
}

impl Term {
    /// Its number; the first is 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Says that this coordinator lives, if it is time to.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn renew(&mut self, now: Duration) -> Result<(), TermError> {
        if now.saturating_sub(self.renewed) < RENEWAL {
            return Ok(());
        }
        self.check(now)?;
        // A lease that cannot be written now may be written later: the check decides when it is too late.
        if let Err(error) = self.write(now) {
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// Whether this coordinator may still change the run; asked before every record.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn check(&self, now: Duration) -> Result<(), TermError> {
        let newest = newest(&self.folder)?;
        if may_write(self.number, newest, now.saturating_sub(self.renewed)) {
            return Ok(());
        }
        if newest > self.number {
            let holder = read(&self.folder.join(newest.to_string())).owner;
            return Err(TermError::Superseded { own: self.number, newest, holder });
        }
        Err(TermError::Expired { path: self.path() })
    }

    /// Gives the term up: who comes next need not wait.
    pub fn release(mut self) {
        self.owner = "nobody".into();
        // Whoever comes next then waits for the lease.
        let _ = self.write(self.renewed);
    }

    fn path(&self) -> PathBuf {
        self.folder.join(self.number.to_string())
    }

    fn write(&mut self, now: Duration) -> Result<(), TermError> {
        let path = self.path();
        self.renewals += 1;
        let text = format!("{}\n{}\n", self.owner, self.renewals);
        // Whole or not at all, for those who read it meanwhile.
        let partial = path.with_extension("partial");
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        });
        written.map_err(io_error(&path))?;
        self.renewed = now;
        Ok(())
    }
}

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    owner: String,
    renewals: String,
}

fn read(path: &Path) -> Lease {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    Lease { owner: next(), renewals: next() }
}

/// `process P on H` of a lease, where H is the host of `own`.
fn process_here(owner: &str, own: &str) -> Option<u32> {
    let parts = |text: &str| {
        let mut words = text.split([' ', ',']);
        let (_, process, _, host) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some((process.parse().ok()?, host.to_owned()))
    };
    let ((process, host), (_, here)): ((u32, String), (u32, String)) = (parts(owner)?, parts(own)?);
    (host == here).then_some(process)
}

/// The holder is an earlier start of our Slurm job: Slurm gave the run to us, whatever a partition keeps alive.
fn is_requeued(owner: &str, own: &str) -> bool {
    let job = |text: &str| -> Option<(String, u64)> {
        let (_, job) = text.rsplit_once(", job ")?;
        let (job, restarts) = job.split_once(" restart ")?;
        Some((job.to_owned(), restarts.trim().parse().ok()?))
    };
    match (job(owner), job(own)) {
        (Some((old, before)), Some((new, now))) => old == new && before < now,
        _ => false,
    }
}

fn is_coordinator(process: u32) -> bool {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("coordinator")
}

/// The holder was a process of this host, and is no more.
fn is_gone(owner: &str, own: &str) -> bool {
    process_here(owner, own).is_some_and(|process| !is_coordinator(process) || process == std::process::id())
}

fn is_here(owner: &str, own: &str) -> bool {
    process_here(owner, own).is_some_and(is_coordinator)
}

/// The highest number of a term in the folder; 0: none.
fn newest(terms: &Path) -> Result<u64, TermError> {
    let entries = fs::read_dir(terms).map_err(io_error(terms))?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TermError {
    let path = path.to_owned();
    move |source| TermError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: &str = "process 4194305 on here, listening on a:1";
    const ELSEWHERE: &str = "process 1 on elsewhere";

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// Claims at once.
    fn claim(folder: &Path, owner: &str) -> Term {
        let mut claimant = Claimant::new(folder, owner).expect("a folder");
        claimant.claim(Duration::ZERO).expect("nobody lives").expect("nobody is waited for")
    }

    #[test]
    fn terms_grow_and_one_that_was_given_up_or_whose_holder_is_gone_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = claim(folder.path(), "process 1 on x");
        assert_eq!(first.number(), 1);
        first.release();
        assert_eq!(claim(folder.path(), GONE).number(), 2);
        assert_eq!(claim(folder.path(), "process 9 on here").number(), 3);
    }

    #[test]
    fn who_was_superseded_may_write_nothing_and_learns_by_whom() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = claim(folder.path(), GONE);
        assert!(first.check(seconds(1)).is_ok());
        let second = claim(folder.path(), "process 7 on here");
        let error = first.check(seconds(1)).expect_err("superseded").to_string();
        assert!(error.contains("(process 7 on here): term 2 follows our 1"), "{error}");
        assert!(second.check(seconds(1)).is_ok());
    }

    #[test]
    fn a_lease_that_is_renewed_elsewhere_keeps_others_out_and_names_its_holder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut first = claim(folder.path(), ELSEWHERE);
        let mut second = Claimant::new(folder.path(), "process 2 on here").expect("a folder");
        assert!(second.claim(seconds(100)).expect("perhaps").is_none());
        first.renew(seconds(3)).expect("renewed");
        let error = second.claim(seconds(101)).expect_err("held").to_string();
        assert!(error.contains("another coordinator holds it (process 1 on elsewhere)"), "{error}");
    }

    #[test]
    fn a_lease_that_is_not_renewed_runs_out_by_the_clock_of_who_waits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = claim(folder.path(), ELSEWHERE);
        let mut second = Claimant::new(folder.path(), "process 2 on here").expect("a folder");
        for now in [100, 105, 109] {
            assert!(second.claim(seconds(now)).expect("perhaps").is_none(), "{now}");
        }
        assert_eq!(second.claim(seconds(110)).expect("run out").map(|term| term.number()), Some(2));
        assert!(first.check(Duration::ZERO).is_err());
    }

    #[test]
    fn a_coordinator_that_could_not_renew_stops_before_another_may_take_over() {
        assert!(may_write(2, 2, Duration::ZERO));
        assert!(!may_write(2, 2, HOLD) && HOLD < LEASE);
        assert!(!may_write(2, 3, Duration::ZERO));
    }

    #[test]
    fn a_requeued_job_takes_over_from_its_earlier_start_at_once_and_from_no_other() {
        let job =
            |job: u64, restart: u64| format!("process 1 on x, listening on a:1, job {job} restart {restart}");
        assert!(is_requeued(&job(7, 0), &job(7, 1)));
        assert!(!is_requeued(&job(7, 1), &job(7, 1)));
        assert!(!is_requeued(&job(7, 2), &job(7, 1)));
        assert!(!is_requeued(&job(6, 0), &job(7, 1)));
        assert!(!is_requeued("process 1 on x, listening on a:1", &job(7, 1)));
    }
}
