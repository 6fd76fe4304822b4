//! Every kind of fault at planned moments of a run on real workers, in worlds of two to four. `make test` has each kind
//! at one moment, `make test-faults` at all of them. Every run finishes with the weights of one that nothing happened
//! to, bit for bit; every sample counts once; and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;
mod coordinator;
mod disk;
mod outlasted;
mod stopped;
#[cfg(feature = "fault-matrix")]
mod worker;

use tests::moments::Moment;

/// All of these moments in the full matrix, else one of them.
fn planned<'a>(all: &'a [Moment], one: &'a [Moment; 1]) -> &'a [Moment] {
    if cfg!(feature = "fault-matrix") { all } else { one }
}
