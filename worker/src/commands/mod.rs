//! A file a subcommand.

pub mod generate;
pub mod init;
pub mod logprobs;
pub mod patches;
pub mod serve;
