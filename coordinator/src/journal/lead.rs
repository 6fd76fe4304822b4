//! How long before its end a job must be told, so that a checkpoint can still be written.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// Seconds where nothing was measured.
const LEAD: u64 = 300;
/// Slurm looks every 30 s; workers and coordinator need a moment to end.
const MARGIN: u64 = 60;
/// The most that Slurm takes.
const MOST: u64 = 65_535;

/// How long before its end a job must be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lead {
    /// Nothing is known of the run yet.
    Unknown,
    /// The longest step and the longest checkpoint of the run so far, seconds.
    Measured {
        /// Of a step.
        step: f64,
        /// Of a checkpoint.
        checkpoint: f64,
    },
}

impl Lead {
    /// From a run's journal, if there is one with a checkpoint that can be read.
    #[must_use]
    pub fn of(journal: &Path) -> Self {
        let opened = Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY);
        opened.ok().map_or(Self::Unknown, |connection| Self::measured(&connection))
    }

    pub(super) fn measured(connection: &Connection) -> Self {
        measured(connection).unwrap_or(Self::Unknown)
    }

    /// The step under way is finished, then a checkpoint is written: twice the longest of both.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Unknown => LEAD,
            Self::Measured { step, checkpoint } => {
                ((2.0 * (step + checkpoint)).ceil() as u64 + MARGIN).min(MOST)
            }
        }
    }

    /// Where the number comes from, as a phrase.
    #[must_use]
    pub fn why(self) -> String {
        match self {
            Self::Unknown => format!("{LEAD} s, because the run has no checkpoint yet to measure"),
            Self::Measured { step, checkpoint } => format!(
                "twice the longest step ({step:.1} s) and checkpoint ({checkpoint:.1} s) of the run so far, and {MARGIN} s"
            ),
        }
    }
}

/// Steps from commit to commit; checkpoints from the commit before them, with an evaluation between where there was
/// one: rather too long than too short. What lies between two terms is left out.
fn measured(connection: &Connection) -> Option<Lead> {
    let longest =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<f64>>(0)).ok().flatten();
    let checkpoint = longest(
        "SELECT max(c.at - s.at) FROM checkpoints c JOIN steps s ON s.step = c.step AND s.voided = 0 WHERE c.at >= s.at
         AND NOT EXISTS (SELECT 1 FROM terms t WHERE t.at BETWEEN s.at AND c.at)",
    )?;
    let step = longest(
        "SELECT max(b.at - a.at) FROM steps a JOIN steps b ON b.step = a.step + 1 WHERE a.voided = 0 AND b.voided = 0
         AND NOT EXISTS (SELECT 1 FROM terms t WHERE t.at BETWEEN a.at AND b.at)",
    )
    .unwrap_or(0.0);
    Some(Lead::Measured { step, checkpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_is_twice_what_was_measured_and_leaves_the_time_between_two_terms_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("j");
        assert_eq!(Lead::of(&path).seconds(), LEAD);
        let connection = Connection::open(&path).expect("opened");
        connection
            .execute_batch(
                "CREATE TABLE terms (term, at); CREATE TABLE steps (step, at, voided); CREATE TABLE checkpoints (step, at);
                 INSERT INTO terms VALUES (1, 0), (2, 150);
                 INSERT INTO steps VALUES (1, 100, 0), (2, 110, 0), (3, 200, 0), (4, 205, 0), (4, 900, 1);
                 INSERT INTO checkpoints VALUES (2, 122.5), (4, 206);",
            )
            .expect("written");
        assert_eq!(Lead::of(&path), Lead::Measured { step: 10.0, checkpoint: 12.5 });
        assert_eq!(Lead::of(&path).seconds(), 105);
    }
}
