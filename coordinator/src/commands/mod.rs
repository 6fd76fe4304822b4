//! One module a command: each has `Args` for the command line and `run`.

pub mod certificates;
pub mod dataset;
pub mod evaluate;
pub mod infer;
pub mod pause;
mod rescore;
pub mod rewards;
pub mod status;
pub mod submit;
pub mod train;
pub mod update;
