//! The rollouts of a step, as they were scored: from them the step can be repeated.

use std::collections::BTreeMap;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Journal, JournalError, json};

/// One sample's responses, and all that it takes to score them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutRow {
    /// The sample.
    #[serde(skip)]
    pub sample: String,
    /// What its pictures are.
    pub media: data::Media,
    /// Its mean opinion score, on the recipe's scale of [1, 5].
    pub mos: f64,
    /// The picture files, or the video.
    pub images: Vec<String>,
    /// What was asked.
    pub prompt: String,
    /// Decoded without special tokens, untrimmed.
    pub texts: Vec<String>,
    /// Token ids, end tokens included.
    pub ids: Vec<Vec<u32>>,
    /// Of the drawing policy, a number a token.
    pub logprobs: Vec<Vec<f32>>,
    /// Predicted quality.
    pub scores: Vec<f64>,
    /// Whether each is in the format, 0 or 1.
    pub formats: Vec<f64>,
    /// The reward's parts, by name; none for a reward without parts.
    pub parts: BTreeMap<String, Vec<f64>>,
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

    /// The rollouts of a step's newest try, if they are there whole.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn rollouts_of(&self, step: u64) -> Result<Vec<RolloutRow>, JournalError> {
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT sample, responses FROM rollouts WHERE step = ?1 AND attempt = \
                 (SELECT max(attempt) FROM rollouts WHERE step = ?1)",
            )?;
            statement.query_map([step], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let rows = read().map_err(|e| JournalError::from_sqlite(&self.path, e))?;
        let row = |(sample, text): (String, String)| {
            serde_json::from_str::<RolloutRow>(&text).map(|row| RolloutRow { sample, ..row })
        };
        let rows: Result<Vec<_>, _> = rows.into_iter().map(row).collect();
        // Rewards that are no numbers are written as null: then the step is rolled out again.
        Ok(rows.unwrap_or_default())
    }
}
