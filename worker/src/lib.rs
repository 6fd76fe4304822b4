//! One process a device: a session with the coordinator and the step pipeline.
//!
//! Read [`step`] first: it is one step of training, a line a stage.

pub mod commands;
pub mod failure;
