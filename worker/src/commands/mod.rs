//! A file a subcommand.

mod content;
pub mod frames;
pub mod generate;
pub mod infer;
pub mod init;
pub mod logprobs;
pub mod patches;
mod request;
pub mod serve;
pub mod update;
