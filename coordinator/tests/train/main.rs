//! The real coordinator with light workers: real processes and real gRPC, no tensors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod ends;
mod fake;
mod recovers;
mod refusals;
mod runs;
mod slurm;
mod ssh;
mod support;
