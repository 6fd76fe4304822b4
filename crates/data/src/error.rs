//! What can be wrong with data.

use std::path::PathBuf;

/// Why data could not be used. Every variant is the user's to mend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A label file cannot be read.
    #[error("{}: {source}; expected a readable label file", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An entry of a label file is wrong.
    #[error("{place}: {reason}")]
    Entry {
        /// `train.jsonl:7`, or `videos.json: entry 7`.
        place: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A label file without a single entry.
    #[error("{file}: no entries; expected a JSON object a line, or a JSON array of them")]
    Empty {
        /// The file's name as messages have it.
        file: String,
    },
    /// A MOS text file, a scale or a split that cannot be used, in a sentence.
    #[error("{0}")]
    Text(String),
    /// A step wants more samples than there are.
    #[error(
        "samples_per_step {wanted} is more than the {have} training samples{which}; expected at most {have}"
    )]
    TooFew {
        /// Samples a step.
        wanted: usize,
        /// Samples that there are.
        have: usize,
        /// Which samples were counted, where not all.
        which: String,
    },
    /// A stage needs to know the samples' distortions.
    #[error("{id}: no distortion in its file name; expected one like I01_10_03.png (photo_type_level)")]
    NoDistortion {
        /// The sample.
        id: String,
    },
}
