//! Agreement with human opinion: SRCC, PLCC, KRCC, RMSE (docs/method.md section 10).
//!
//! Label and prediction files become [`Label`]s and [`Prediction`]s, [`Matching`] pairs them, and a
//! [`Report`] says how well the pairs agree. What is undefined (a correlation with a constant) is `None`,
//! never NaN.
//!
//! ```
//! use eval::{Pair, Report};
//!
//! let pairs: Vec<Pair> = [(1.0, 1.5), (2.0, 1.9), (4.0, 3.0), (3.0, 4.0)]
//!     .map(|(prediction, label)| Pair { prediction, label })
//!     .to_vec();
//! let report = Report::of(&pairs, None);
//! assert!(report.srcc.is_some_and(|r| (r - 0.8).abs() < 1e-12));
//! assert_eq!(report.distinct_scores, 4);
//! ```

mod bootstrap;
mod breakdown;
mod correlation;
mod kendall;
mod labels;
mod lines;
mod logistic;
mod matching;
mod predictions;
mod report;

pub use bootstrap::{Bootstrap, Interval, Paired};
pub use breakdown::{Breakdown, Item, Part, Within};
pub use correlation::{Pair, plcc, rmse, srcc};
pub use kendall::krcc;
pub use labels::{Label, parse_label, parse_labels, read_labels};
pub use lines::Error;
pub use logistic::{FitFailure, Logistic};
pub use matching::Matching;
pub use predictions::{Prediction, parse_predictions, read_predictions};
pub use report::{Fit, Means, Report, by_key};
