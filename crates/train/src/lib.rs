//! A rank's training: block-wise backward, AdamW over f32 masters, prepared steps and commits.
//!
//! ```text
//! items → micro-batches → forward link by link → head and loss in chunks → backward link by link
//!       → gradients in f32, summed over ranks block by block → Prepared → commit → AdamW → compute copies
//! ```

mod adamw;
mod backward;
#[cfg(test)]
mod backward_tests;
mod blocks;
mod distortion;
mod error;
mod heal;
#[cfg(test)]
mod heal_tests;
mod idle;
mod item;
mod logprobs;
mod lora;
#[cfg(test)]
mod lora_tests;
mod metrics;
mod microbatch;
mod mirror;
#[cfg(test)]
mod mirror_tests;
mod norm;
mod objective;
#[cfg(test)]
mod objective_tests;
mod pass;
mod reference;
mod save;
mod sharding;
mod tensors;
#[cfg(test)]
mod testing;
mod trainer;
#[cfg(test)]
mod trainer_tests;

pub use blocks::BlockId;
pub use distortion::{KINDS, LEVELS, Prediction};
pub use error::Error;
pub use item::{Completion, Item};
pub use pass::Counts;
pub use save::{ADAPTER_FOLDER, STATE_FILE};
pub use sharding::{Place, Seat};
pub use trainer::{Prepared, Trainer};
