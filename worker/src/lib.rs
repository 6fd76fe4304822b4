//! One process a device: a session with the coordinator and the step pipeline.
//!
//! Read [`step`] first: it is one step of training, a function a stage.

pub mod adapters;
pub mod ahead;
pub mod applied;
pub mod bench;
pub mod commands;
pub mod control;
pub mod device;
pub mod draw;
pub mod failure;
pub mod faults;
pub mod frames;
pub mod heap;
pub mod inputs;
pub mod interface;
pub mod pictures;
pub mod progress;
#[cfg(test)]
mod recovery_tests;
pub mod restore;
pub mod session;
pub mod step;
pub mod turn;
pub mod work;
pub mod world;
