//! The rollouts of a step, as they were scored: from them the step can be repeated.

use rusqlite::params;
use serde::Serialize;

use super::{Journal, JournalError, json};

/// One sample's responses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RolloutRow {
    /// The sample.
    #[serde(skip)]
    pub sample: String,
    /// Decoded without special tokens, untrimmed.
    pub texts: Vec<String>,
    /// Token ids, end tokens included.
    pub ids: Vec<Vec<u32>>,
    /// Of the drawing policy, a number a token.
    pub logprobs: Vec<Vec<f32>>,
    /// Predicted quality.
    pub scores: Vec<f64>,
    /// Rewards.
    pub rewards: Vec<f64>,
    /// Advantages within the sample.
    pub advantages: Vec<f64>,
}

impl Journal {
    /// Puts a step's rollouts on disk, all or none.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn rollouts(&mut self, step: u64, attempt: u32, rows: &[RolloutRow]) -> Result<(), JournalError> {
        let insert = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            {
                let mut statement = transaction.prepare_cached(
                    "INSERT OR REPLACE INTO rollouts (step, attempt, sample, responses) VALUES (?1, ?2, ?3, ?4)",
                )?;
                for row in rows {
                    statement.execute(params![step, attempt, row.sample, json(row)])?;
                }
            }
            transaction.commit()
        };
        let mut insert = insert;
        insert().map_err(|e| JournalError::from_sqlite(&self.path, e))
    }
}
