//! Group advantages, policy loss terms and their normalisation, in plain numbers (docs/method.md section 3).
//!
//! The tensor code computes the same over whole batches and is tested against what stands here.
//!
//! ```
//! use settings::{Advantage, LossForm, Objective};
//!
//! let advantages = grpo::advantages(&[1.0, 2.0, 3.0, 2.0, 2.0, 2.0], 3, Advantage::Std)?;
//! assert_eq!(advantages.zero_spread_groups, 1);
//!
//! let token = grpo::Token { logprob: -1.0, old_logprob: -1.0, reference_logprob: Some(-1.0) };
//! let loss = token.loss(advantages.values[0], &Objective::default());
//! assert_eq!(loss.kl, 0.0);
//!
//! let counts = grpo::Counts { samples: 2, completions: 6, tokens: 300 };
//! assert_eq!(counts.token_weight(LossForm::TokenMean, 50, 256), 1.0 / 300.0);
//! # Ok::<(), grpo::Error>(())
//! ```

mod advantage;
mod completion;
mod loss;
mod normalise;

pub use advantage::{ADVANTAGE_EPSILON, Advantages, Error, advantages, spread};
pub use completion::trained_tokens;
pub use loss::{Token, TokenLoss};
pub use normalise::Counts;
