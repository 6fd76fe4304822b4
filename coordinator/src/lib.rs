//! The coordinator: decides membership, epochs and step commits, scores rollouts, keeps the journal and
//! launches workers. Nothing below it knows a tensor.

pub mod client;
pub mod commands;
pub mod dataset;
pub mod engine;
pub mod failure;
pub mod folder;
pub mod journal;
pub mod launch;
pub mod outlook;
pub mod plan;
pub mod report;
pub mod security;
pub mod server;
pub mod shell;
pub mod tell;
pub mod terms;
