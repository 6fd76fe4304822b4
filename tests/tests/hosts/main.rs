//! Real workers on hosts of their own: power-offs and cut cables in `make test`, where they need root; at more moments,
//! and over ssh and on Slurm, in `make test-cluster`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../coordinator/tests/train/cluster.rs"]
#[allow(dead_code, reason = "each user has a part of it")]
mod cluster;
#[cfg(feature = "cluster")]
mod launched;
#[cfg(feature = "cluster")]
mod longer;
mod moments;
mod site;
#[cfg(feature = "cluster")]
#[path = "../../../coordinator/tests/train/sshd.rs"]
mod sshd;
