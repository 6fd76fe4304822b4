//! Who may speak for a run: terms, claimed by creating `terms/N` exclusively in the run folder.
//!
//! A coordinator renews its term's lease while it lives. Another one that wants the folder waits until the lease has
//! run out by its own clock (no clock is compared between hosts; a process of this host that is gone is seen at once),
//! then claims the next term. From then on the first can change nothing: before each record it looks whether a later
//! term is there, and it stops by itself where it could not renew for as long as a lease (TM-1).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a term's holder may be unable to renew it.
pub const LEASE: Duration = Duration::from_secs(10);
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
    #[error("{}: the term's lease could not be renewed for {} s: another coordinator may have taken over, so this one stops", path.display(), LEASE.as_secs())]
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

/// A claimed term.
#[derive(Debug)]
pub struct Term {
    number: u64,
    folder: PathBuf,
    owner: String,
    renewals: u64,
    renewed: Instant,
}

/// Whether a coordinator of term `own` may still write where `newest` is the newest term there is and its lease was
/// last renewed `since` ago.
#[must_use]
pub fn may_write(own: u64, newest: u64, since: Duration) -> bool {
    newest <= own && since < LEASE
}

impl Term {
    /// Claims the term after the newest in the run `folder`; waits for that one's lease where its holder may live.
    /// `owner` is a line for people, and begins with `process P on H`.
    ///
    /// # Errors
    /// If another coordinator lives, or the file system refuses.
    pub fn claim(folder: &Path, owner: &str) -> Result<Self, TermError> {
        let terms = folder.join("terms");
        fs::create_dir_all(&terms).map_err(io_error(&terms))?;
        loop {
            let newest = newest(&terms)?;
            if newest > 0 {
                outlive(folder, &terms.join(newest.to_string()), owner)?;
            }
            let path = terms.join((newest + 1).to_string());
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(_) => {
                    let (number, folder, owner) = (newest + 1, terms, owner.to_owned());
                    let mut term = Self { number, folder, owner, renewals: 0, renewed: Instant::now() };
                    term.write()?;
                    return Ok(term);
                }
                // Somebody was faster: look at it as at any other holder.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error(&path)(e)),
            }
        }
    }

    /// Its number; the first is 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Says that this coordinator lives, if it is time to.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn renew(&mut self) -> Result<(), TermError> {
        if self.renewed.elapsed() < RENEWAL {
            return Ok(());
        }
        self.check()?;
        // A lease that cannot be written now may be written later: the check decides when it is too late.
        if let Err(error) = self.write() {
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// Whether this coordinator may still change the run; asked before every record.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn check(&self) -> Result<(), TermError> {
        let newest = newest(&self.folder)?;
        if may_write(self.number, newest, self.renewed.elapsed()) {
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
        let _ = self.write();
    }

    fn path(&self) -> PathBuf {
        self.folder.join(self.number.to_string())
    }

    fn write(&mut self) -> Result<(), TermError> {
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
        self.renewed = Instant::now();
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

/// Returns when the lease at `path` has run out.
fn outlive(folder: &Path, path: &Path, own: &str) -> Result<(), TermError> {
    let first = read(path);
    if first.owner == "nobody" || is_gone(&first.owner, own) || is_requeued(&first.owner, own) {
        return Ok(());
    }
    let held = || TermError::Held { folder: folder.to_owned(), holder: first.owner.clone() };
    if is_here(&first.owner, own) {
        return Err(held());
    }
    let since = Instant::now();
    while since.elapsed() < LEASE {
        std::thread::sleep(Duration::from_millis(100));
        let now = read(path);
        if now != first {
            return if now.owner == "nobody" { Ok(()) } else { Err(held()) };
        }
    }
    Ok(())
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

    #[test]
    fn terms_grow_and_one_that_was_given_up_or_whose_holder_is_gone_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Term::claim(folder.path(), "process 1 on x").expect("free");
        assert_eq!(first.number(), 1);
        first.release();
        assert_eq!(Term::claim(folder.path(), GONE).expect("given up").number(), 2);
        assert_eq!(Term::claim(folder.path(), "process 9 on here").expect("gone").number(), 3);
    }

    #[test]
    fn who_was_superseded_may_write_nothing_and_learns_by_whom() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Term::claim(folder.path(), GONE).expect("free");
        assert!(first.check().is_ok());
        let second = Term::claim(folder.path(), "process 7 on here").expect("gone");
        let error = first.check().expect_err("superseded").to_string();
        assert!(error.contains("(process 7 on here): term 2 follows our 1"), "{error}");
        assert!(second.check().is_ok());
    }

    #[test]
    fn a_lease_that_is_renewed_elsewhere_keeps_others_out_and_names_its_holder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut first = Term::claim(folder.path(), "process 1 on elsewhere").expect("free");
        let path = folder.path().to_owned();
        let second = std::thread::spawn(move || Term::claim(&path, "process 2 on here"));
        while !second.is_finished() {
            first.write().expect("renewed");
            std::thread::sleep(Duration::from_millis(20));
        }
        let error = second.join().expect("ended").expect_err("held").to_string();
        assert!(error.contains("another coordinator holds it (process 1 on elsewhere)"), "{error}");
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

    #[test]
    fn a_coordinator_that_could_not_renew_for_a_lease_may_not_write() {
        assert!(may_write(2, 2, Duration::ZERO));
        assert!(!may_write(2, 2, LEASE));
        assert!(!may_write(2, 3, Duration::ZERO));
    }
}
