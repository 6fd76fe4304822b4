//! The run's memory on disk: an SQLite file a term in the run folder, written before what it says leaves.
//!
//! Opened with `locking_mode=EXCLUSIVE` and a rollback journal: no shared memory, so that it may live on a network
//! file system; `synchronous=FULL`, so that what was recorded survives a crash. Each term writes a file of its own,
//! begun from a copy of the last one's (`copy.rs`): whatever a coordinator writes that was cut off, nobody reads.
//! `journal.sqlite` is a link to the newest.

mod changes;
mod copy;
mod error;
mod lead;
mod rollouts;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

pub use error::JournalError;
pub use lead::Lead;
pub use rollouts::RolloutRow;

use crate::engine::Record;
use crate::terms::TermError;

/// The link to the newest journal, in a run folder.
pub const FILE: &str = "journal.sqlite";

/// What the journal says of the run itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Names the run to workers.
    pub id: String,
    /// Of the resolved recipe.
    pub recipe_digest: String,
    /// The resolved recipe, as JSON.
    pub recipe: String,
}

/// A coordinator's claim on the run.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its term.
    pub term: u64,
    /// Who it is, a line for people.
    pub owner: &'a str,
    /// Seconds since 1970.
    pub at: f64,
}

/// A run that an earlier coordinator left.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// The run's name.
    pub id: String,
    /// Everything that happened, in order.
    pub records: Vec<Record>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal of a term in `folder`, which must exist: a new run's, or with `resume` that of the run that
    /// the folder holds. A run that ended before its first step leaves nothing worth keeping: it is forgotten. `may` is
    /// asked before the link, which others go by, names this term's.
    ///
    /// # Errors
    /// If the folder holds a run with steps and `resume` is not set, if the recipe differs from that run's in what
    /// must not change, if the journal is damaged or cannot be read or written, or if `may` refuses.
    pub fn open(
        folder: &Path,
        claim: Claim<'_>,
        run: &RunRow,
        resume: bool,
        may: &dyn Fn() -> Result<(), TermError>,
    ) -> Result<(Self, Option<Past>), JournalError> {
        if let Some(term) = latest(folder).filter(|latest| *latest > claim.term) {
            return Err(JournalError::TermsMissing {
                folder: folder.into(),
                path: folder.join(name(term)),
                term,
            });
        }
        let path = folder.join(name(claim.term));
        if let Some(earlier) = newest_below(folder, claim.term) {
            copy::begin_from(folder, earlier, claim.term)?;
        }
        let opened = Self::take(folder, &path, claim, run, resume);
        if opened.is_err() {
            // It says nothing that the earlier one does not.
            let _ = fs::remove_file(&path);
        }
        let (journal, past) = opened?;
        may()?;
        link(folder, claim.term).map_err(|source| JournalError::Copy { path: folder.join(FILE), source })?;
        // The last term's stays, for people; the ones before it say nothing more.
        for old in 1..newest_below(folder, claim.term).unwrap_or(1) {
            let _ = fs::remove_file(folder.join(name(old)));
        }
        (1..claim.term).for_each(|old| copy::forget(folder, old));
        Ok((journal, past))
    }

    fn take(
        folder: &Path,
        path: &Path,
        claim: Claim<'_>,
        run: &RunRow,
        resume: bool,
    ) -> Result<(Self, Option<Past>), JournalError> {
        let journal = Self::connect(path)?;
        let past = journal.past(folder, run, resume)?;
        if past.is_none() {
            journal.begin_anew(run, claim.at)?;
        }
        journal.execute(
            "INSERT OR REPLACE INTO terms (term, owner, at) VALUES (?1, ?2, ?3)",
            params![claim.term, claim.owner, claim.at],
        )?;
        journal.execute("UPDATE run SET outcome = NULL, ended = NULL", [])?;
        Ok((journal, past))
    }

    /// Forgets a run without steps, and names the new one: both, or neither.
    fn begin_anew(&self, run: &RunRow, at: f64) -> Result<(), JournalError> {
        let write = || -> rusqlite::Result<()> {
            let transaction = self.connection.unchecked_transaction()?;
            transaction.execute_batch(schema::EMPTY)?;
            transaction.execute(
                "INSERT INTO run (id, recipe_digest, recipe, version, started) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![run.id, run.recipe_digest, run.recipe, proto::VERSION, at],
            )?;
            transaction.commit()
        };
        write().map_err(|e| JournalError::from_sqlite(&self.path, e))
    }

    fn connect(path: &Path) -> Result<Self, JournalError> {
        let of = |e| JournalError::from_sqlite(path, e);
        let connection = Connection::open(path).map_err(of)?;
        connection.busy_timeout(std::time::Duration::ZERO).map_err(of)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(of)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(of)?;
        connection.pragma_update_and_check(None, "journal_mode", "TRUNCATE", |_| Ok(())).map_err(of)?;
        let journal = Self { connection, path: path.into() };
        // The first write takes the lock, and with this mode it is kept.
        journal.batch(schema::CREATE)?;
        Ok(journal)
    }

    /// The run that the journal holds, if it has got anywhere.
    fn past(&self, folder: &Path, run: &RunRow, resume: bool) -> Result<Option<Past>, JournalError> {
        let row = self
            .connection
            .query_row("SELECT id, recipe, outcome FROM run", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
            })
            .optional()
            .map_err(|e| JournalError::from_sqlite(&self.path, e))?;
        let Some((id, recipe, outcome)) = row else { return Ok(None) };
        let records = self.records()?;
        let step = records.iter().rev().find_map(|record| match record {
            Record::Step(step) => Some(step.step),
            _ => None,
        });
        let folder = folder.to_owned();
        match (step, resume) {
            (None, _) => Ok(None),
            (Some(step), false) => {
                let outcome = outcome.unwrap_or_else(|| "broken off".into());
                Err(JournalError::AnotherRun { folder, outcome, step })
            }
            (Some(_), true) => match changes::between(&recipe, &run.recipe) {
                changed if changed.is_empty() => Ok(Some(Past { id, records })),
                changed => Err(JournalError::OtherRecipe { folder, changed: changed.join(", ") }),
            },
        }
    }

    /// Everything that was recorded, in order.
    fn records(&self) -> Result<Vec<Record>, JournalError> {
        let read = || -> rusqlite::Result<Vec<(i64, String)>> {
            let mut statement = self.connection.prepare("SELECT seq, record FROM records ORDER BY seq")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let rows = read().map_err(|e| JournalError::from_sqlite(&self.path, e))?;
        rows.into_iter()
            .map(|(seq, text)| {
                serde_json::from_str(&text).map_err(|e| JournalError::Unreadable {
                    path: self.path.clone(),
                    seq,
                    reason: e.to_string(),
                })
            })
            .collect()
    }

    /// Where the data plan stood after a surviving step of a stage; `None`: at the stage's beginning.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn cursor(&self, stage: usize, step: u64) -> Result<Option<String>, JournalError> {
        self.connection
            .prepare_cached("SELECT cursor FROM steps WHERE step = ?1 AND stage = ?2 AND voided = 0")
            .and_then(|mut statement| {
                statement.query_row(params![step, stage as u64], |row| row.get(0)).optional()
            })
            .map_err(|e| JournalError::from_sqlite(&self.path, e))
    }

    /// Puts a record on disk; when it returns, the record survives a crash. `at`: seconds since 1970.
    ///
    /// # Errors
    /// If it cannot be written: nothing that depends on it may leave.
    pub fn record(&mut self, record: &Record, at: f64) -> Result<(), JournalError> {
        let write = || -> rusqlite::Result<()> {
            let transaction = self.connection.unchecked_transaction()?;
            transaction
                .prepare_cached("INSERT INTO records (record, at) VALUES (?1, ?2)")?
                .execute(params![json(record), at])?;
            tell(&transaction, record, at)?;
            transaction.commit()
        };
        write().map_err(|e| JournalError::from_sqlite(&self.path, e))
    }

    /// How long before its end a job of this run must be told, as far as the run itself shows.
    #[must_use]
    pub fn lead(&self) -> Lead {
        Lead::measured(&self.connection)
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), JournalError> {
        let done = self.connection.execute(sql, params);
        done.map(|_| ()).map_err(|e| JournalError::from_sqlite(&self.path, e))
    }

    fn batch(&self, sql: &str) -> Result<(), JournalError> {
        self.connection.execute_batch(sql).map_err(|e| JournalError::from_sqlite(&self.path, e))
    }
}

/// The record as the tables for people have it.
fn tell(connection: &Connection, record: &Record, at: f64) -> rusqlite::Result<()> {
    let insert = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        connection.prepare_cached(sql)?.execute(params).map(|_| ())
    };
    match record {
        Record::Epoch(epoch) => insert(
            "INSERT INTO epochs (epoch, members, at) VALUES (?1, ?2, ?3)",
            params![epoch.epoch, json(&epoch.members), at],
        ),
        Record::Stage(stage) => insert(
            "INSERT INTO stages (stage, name, digest, at) VALUES (?1, ?2, ?3, ?4)",
            params![stage.stage as u64, stage.name, stage.digest, at],
        ),
        Record::Step(step) => insert(
            "INSERT INTO steps (step, stage, number, attempt, skip, lr, members, cursor, samples, metrics, at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                step.step,
                step.stage as u64,
                step.number,
                step.attempt,
                step.skip,
                step.lr,
                json(&step.members),
                step.cursor,
                json(&step.samples),
                json(&step.metrics),
                at
            ],
        ),
        Record::Discarded(discard) => insert(
            "INSERT INTO discards (step, attempt, reason, at) VALUES (?1, ?2, ?3, ?4)",
            params![discard.step, discard.attempt, discard.reason, at],
        ),
        Record::Quarantined(found) => insert(
            "INSERT INTO quarantine (sample, step, reason, at) VALUES (?1, ?2, ?3, ?4)",
            params![found.sample, found.step, found.reason, at],
        ),
        Record::Suspected(_) => Ok(()),
        Record::Restored(restored) => {
            insert("UPDATE steps SET voided = 1 WHERE step > ?1", params![restored.to])?;
            insert("DELETE FROM checkpoints WHERE step > ?1", params![restored.to])?;
            insert(
                "INSERT INTO restorations (from_step, to_step, source, at) VALUES (?1, ?2, ?3, ?4)",
                params![restored.from, restored.to, json(&restored.source), at],
            )
        }
        Record::Evaluation(evaluation) => insert(
            "INSERT INTO evaluations (step, stage, sets, moment, metrics, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                evaluation.step,
                evaluation.stage as u64,
                evaluation.set.to_string(),
                evaluation.moment.to_string(),
                json(&evaluation.metrics),
                at
            ],
        ),
        Record::Checkpoint(checkpoint) => insert(
            "INSERT OR REPLACE INTO checkpoints (name, step, at) VALUES (?1, ?2, ?3)",
            params![checkpoint.name.to_string(), checkpoint.step, at],
        ),
        Record::Ended { outcome } => insert("UPDATE run SET outcome = ?1, ended = ?2", params![outcome, at]),
    }
}

/// The file of a term.
fn name(term: u64) -> String {
    format!("journal.{term}.sqlite")
}

/// The newest term that has a journal.
fn latest(folder: &Path) -> Option<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let term = |name: &std::ffi::OsStr| {
        name.to_str()?.strip_prefix("journal.")?.strip_suffix(".sqlite")?.parse::<u64>().ok()
    };
    entries.filter_map(|entry| term(&entry.file_name())).max()
}

/// The newest term below `term` that has a journal.
fn newest_below(folder: &Path, term: u64) -> Option<u64> {
    (1..term).rev().find(|term| folder.join(name(*term)).is_file())
}

/// Points the link at a term's file, in one rename.
fn link(folder: &Path, term: u64) -> std::io::Result<()> {
    let partial = folder.join(format!("{FILE}.partial"));
    match fs::remove_file(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::os::unix::fs::symlink(name(term), &partial)?;
    fs::rename(&partial, folder.join(FILE))
}

fn json(value: &impl serde::Serialize) -> String {
    // Maps with string or integer keys, lists and numbers: nothing that JSON cannot hold.
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

#[cfg(test)]
mod tests;
