//! Judging pictures and videos, as far as it needs no tensors: what is asked, which files it is asked of, what is done
//! of it, and what is written in the end. `worker infer` judges alone or a share; `coordinator infer` puts the shares
//! together.
//!
//! ```text
//! Asked → Work: batches of items → Journal: verdicts, a batch a line → Done → scores, failures, reasoning
//! ```

mod asked;
mod done;
mod error;
mod journal;
mod listing;
mod output;
mod share;
mod verdict;
mod work;

pub use asked::{Asked, Dtype};
pub use done::{Done, Meter};
pub use error::Error;
pub use journal::Journal;
pub use listing::Item;
pub use output::{Summary, finish, in_place};
pub use share::Share;
pub use verdict::{Rule, Verdict};
pub use work::Work;

#[cfg(test)]
mod testing {
    use std::path::Path;

    use clap::Parser;

    use crate::Asked;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        asked: Asked,
    }

    /// What a command line asks.
    pub(crate) fn line(words: &[String]) -> Result<Asked, clap::Error> {
        let name = ["infer".to_owned()];
        Line::try_parse_from([&name[..], words].concat()).map(|line| line.asked)
    }

    /// Pictures of some folder, judged into `output`.
    pub(crate) fn asked(output: &Path) -> Asked {
        let output = format!("--output={}", output.display());
        let words = ["--model=/", "--images=images", &output].map(str::to_owned);
        line(&words).expect("arguments")
    }
}
