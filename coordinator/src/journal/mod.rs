//! The run's memory on disk: one SQLite file in the run folder, written before what it says leaves.
//!
//! Opened with `locking_mode=EXCLUSIVE` and a rollback journal: one coordinator at a time, no shared memory, so
//! that it may live on a network file system; `synchronous=FULL`, so that what was recorded survives a crash.

mod error;
mod rollouts;
mod schema;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

pub use error::JournalError;
pub use rollouts::RolloutRow;

use crate::engine::Record;

/// The journal's file name in a run folder.
pub const FILE: &str = "journal.sqlite";

/// What the journal says of the run itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Names the run to workers.
    pub id: String,
    /// Of the resolved recipe.
    pub recipe_digest: String,
    /// The coordinator's term.
    pub term: u64,
}

/// An open journal; nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
}

impl Journal {
    /// Begins the journal of a new run in `folder`, which must exist. `at` is the time, seconds since 1970. A run
    /// that ended before its first step leaves nothing worth keeping: it is forgotten.
    ///
    /// # Errors
    /// If another coordinator holds it, if the folder holds a run with steps, or if it cannot be written.
    pub fn begin(folder: &Path, run: &RunRow, at: f64) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        let journal = Self::open(&path)?;
        journal.refuse_another_run(folder)?;
        journal.connection.execute_batch(schema::EMPTY).map_err(|e| JournalError::from_sqlite(&path, e))?;
        let RunRow { id, recipe_digest, term } = run;
        journal.execute(
            "INSERT INTO run (id, recipe_digest, term, version, started) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, recipe_digest, term, proto::VERSION, at],
        )?;
        Ok(journal)
    }

    fn open(path: &Path) -> Result<Self, JournalError> {
        let of = |e| JournalError::from_sqlite(path, e);
        let connection = Connection::open(path).map_err(of)?;
        connection.busy_timeout(std::time::Duration::ZERO).map_err(of)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(of)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(of)?;
        connection.pragma_update_and_check(None, "journal_mode", "TRUNCATE", |_| Ok(())).map_err(of)?;
        // The first write takes the lock, and with this mode it is kept.
        connection.execute_batch(schema::CREATE).map_err(of)?;
        Ok(Self { connection, path: path.into() })
    }

    fn refuse_another_run(&self, folder: &Path) -> Result<(), JournalError> {
        let row = self
            .connection
            .query_row("SELECT outcome, (SELECT max(step) FROM steps) FROM run", [], |row| {
                Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<u64>>(1)?))
            })
            .optional()
            .map_err(|e| JournalError::from_sqlite(&self.path, e))?;
        match row {
            None | Some((_, None)) => Ok(()),
            Some((outcome, Some(step))) => Err(JournalError::AnotherRun {
                folder: folder.into(),
                outcome: outcome.unwrap_or_else(|| "broken off".into()),
                step,
            }),
        }
    }

    /// Puts a record on disk; when it returns, the record survives a crash. `at`: seconds since 1970.
    ///
    /// # Errors
    /// If it cannot be written: nothing that depends on it may leave.
    pub fn record(&mut self, record: &Record, at: f64) -> Result<(), JournalError> {
        match record {
            Record::Epoch(epoch) => self.execute(
                "INSERT INTO epochs (epoch, members, at) VALUES (?1, ?2, ?3)",
                params![epoch.epoch, json(&epoch.members), at],
            ),
            Record::Stage(stage) => self.execute(
                "INSERT INTO stages (stage, name, digest, at) VALUES (?1, ?2, ?3, ?4)",
                params![stage.stage as u64, stage.name, stage.digest, at],
            ),
            Record::Step(step) => self.execute(
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
            Record::Evaluation(evaluation) => self.execute(
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
            Record::Checkpoint(checkpoint) => self.execute(
                "INSERT INTO checkpoints (name, step, at) VALUES (?1, ?2, ?3)",
                params![checkpoint.name.to_string(), checkpoint.step, at],
            ),
            Record::Ended { outcome } => {
                self.execute("UPDATE run SET outcome = ?1, ended = ?2", params![outcome, at])
            }
        }
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), JournalError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map(|_| ())
            .map_err(|e| JournalError::from_sqlite(&self.path, e))
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Maps with string or integer keys, lists and numbers: nothing that JSON cannot hold.
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

#[cfg(test)]
mod tests;
