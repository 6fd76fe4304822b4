//! `coordinator dataset`: makes data sets with proxy labels from photographs, and checks any.
//!
//! ```text
//! photographs → [scan: hash, size, detail] → [split] → [plan] → distort → cut → images, manifests, card
//! ```

pub mod check;
pub mod synthesize;

mod card;
mod manifest;
mod parallel;
mod photos;
mod plan;
mod record;
mod scan;
mod split;

#[cfg(test)]
mod tests;
