//! The real coordinator with light workers: real processes and real gRPC, no tensors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "cluster")]
mod cluster;
mod ends;
mod fake;
mod fencing;
mod guards;
mod light;
mod raw;
mod recovers;
mod refusals;
mod runs;
#[cfg(feature = "cluster")]
mod slurm;
#[cfg(feature = "cluster")]
mod ssh;
#[cfg(feature = "cluster")]
mod sshd;
mod strangers;
mod support;
mod write_points;
