//! The real coordinator with light workers: real processes and real gRPC, no tensors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod fake;
mod guards;
mod raw;
mod recovers;
mod refusals;
mod runs;
mod strangers;
mod support;
