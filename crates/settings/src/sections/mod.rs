//! The sections of a recipe, a file each.

mod data;
mod lora;
mod model;
mod objective;
mod optimizer;
mod parallel;
mod recovery;
mod reward;
mod rollout;

pub use data::*;
pub use lora::*;
pub use model::*;
pub use objective::*;
pub use optimizer::*;
pub use parallel::*;
pub use recovery::*;
pub use reward::*;
pub use rollout::*;
