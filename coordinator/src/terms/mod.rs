//! Who may speak for a run: terms, claimed by creating `terms/N` exclusively in the run folder.
//!
//! A coordinator renews its term's lease while it lives. Another one that wants the folder waits until the lease has
//! run out by its own clock (no clock is compared between hosts; a process of this host that is gone is seen at once),
//! then claims the next term. From then on the first can change nothing: before each record, and whatever else changes
//! the folder, it looks whether a later term is there, and it stops by itself where it could not renew for nearly as
//! long as a lease (TM-1). A thread of its own renews the lease ([`Tenure`]), and any other asks whether the term still
//! stands ([`Fence`]).

mod error;
mod fence;
mod lease;
mod tenure;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::TermError;
pub use fence::{Clock, Fence};
pub use tenure::Tenure;

use fence::Standing;
use lease::{Lease, is_gone, is_here, is_requeued};

/// How long a term that is not renewed keeps others out.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long its holder may write without having renewed it: less, so that what it began by then is done when another
/// takes over.
const HOLD: Duration = Duration::from_secs(7);
/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(2);

/// A claimed term. `now` is everywhere the time since the coordinator's start.
#[derive(Debug)]
pub struct Term {
    standing: Standing,
    owner: String,
    renewals: u64,
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
        fs::create_dir_all(&terms).map_err(TermError::io(&terms))?;
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
                let standing = Standing::new(newest + 1, self.terms.clone(), now);
                let mut term = Term { standing, owner: self.owner.clone(), renewals: 0 };
                term.write(now)?;
                Ok(Some(term))
            }
            // Somebody was faster: look at it as at any other holder.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(TermError::io(&path)(e)),
        }
    }

    /// Whether the holder of `term` is known to be gone, or its lease has run out under our eyes.
    fn has_outlived(&mut self, term: u64, now: Duration) -> Result<bool, TermError> {
        let lease = lease::read(&self.terms.join(term.to_string()));
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
        self.standing.number
    }

    /// Says that this coordinator lives, if it is time to. What is lost is not had again so: a lease that has run out is
    /// not renewed.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn renew(&mut self, now: Duration) -> Result<(), TermError> {
        if now.saturating_sub(self.standing.renewed()) < RENEWAL {
            return Ok(());
        }
        self.check(now)?;
        // A lease that cannot be written now may be written later: the check decides when it is too late.
        if let Err(error) = self.write(now) {
            tracing::warn!("{error}");
            self.standing.refuse(error.to_string());
        }
        Ok(())
    }

    /// Whether this coordinator may still change the run; asked before every change.
    ///
    /// # Errors
    /// If a later term is there, or the lease has run out.
    pub fn check(&self, now: Duration) -> Result<(), TermError> {
        self.standing.check(now)
    }

    /// Gives the term up: who comes next need not wait.
    pub fn release(mut self) {
        self.owner = "nobody".into();
        // Whoever comes next then waits for the lease.
        let _ = self.write(self.standing.renewed());
    }

    fn write(&mut self, now: Duration) -> Result<(), TermError> {
        let path = self.standing.path();
        self.renewals += 1;
        let text = format!("{}\n{}\n", self.owner, self.renewals);
        // Whole or not at all, for those who read it meanwhile.
        let partial = path.with_extension("partial");
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        });
        written.map_err(TermError::io(&path))?;
        // From before it was written: what others see of it they see later.
        self.standing.renew(now);
        Ok(())
    }
}

/// The highest number of a term in the folder; 0: none.
fn newest(terms: &Path) -> Result<u64, TermError> {
    let mut newest = 0;
    for entry in fs::read_dir(terms).map_err(TermError::io(terms))? {
        let name = entry.map_err(TermError::io(terms))?.file_name();
        newest = newest.max(name.to_str().and_then(|name| name.parse().ok()).unwrap_or(0));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests;
