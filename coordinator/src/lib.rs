//! The coordinator: decides membership, epochs and step commits, scores rollouts, keeps the journal and
//! launches workers. Nothing below it knows a tensor.

pub mod commands;
pub mod engine;
pub mod failure;
