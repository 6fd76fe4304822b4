//! PRPO's reward and its parts, VisualQuality-R1's, and the format (docs/method.md section 2).
//!
//! ```text
//! Batch → scores of every response → groups that are compared → parts → accuracy;  texts → format
//! ```
//!
//! A part is a file with a `PART` in it and a line in [`parts`]. Nothing here returns NaN: each case in
//! which the published code does has a value of its own and is counted in [`Counts`].
//!
//! ```
//! use reward::{Batch, Media, score};
//!
//! let completions: Vec<String> =
//!     ["2.0", "3.0", "4.0", "4.5"].iter().map(|s| format!("<think>a</think><answer>{s}</answer>")).collect();
//! let batch = Batch { media: Media::Image, responses: 2, mos: &[2.0, 4.5], completions: &completions };
//! let scored = score(batch, &settings::Reward::default())?;
//! assert_eq!(scored.accuracy.len(), 4);
//! assert_eq!(scored.format, [0.0; 4]);
//! # Ok::<(), reward::Error>(())
//! ```

mod batch;
mod counts;
mod format;
mod pairwise;
mod parts;
mod response_balance;
mod score;
mod score_rank;
mod scores;
mod std_penalty;
mod text;
mod triplet;
mod visualquality_r1;

pub use batch::{Batch, Error, LARGEST_MOS, Media};
pub use counts::Counts;
pub use format::matches_format;
pub use parts::Parts;
pub use score::{Scored, score};
pub use scores::{NO_NUMBER, Scores};
pub use visualquality_r1::answer_score;
