//! The wire between coordinator and workers: generated from `run/v1/run.proto`.

/// Version that both sides must share: the package's, with the protocol's revision.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+wire.4");

/// Largest message either side accepts, bytes: a step's completions are far below it.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The file in a run folder that every host of the run must see.
pub const MARK: &str = "mark";

/// `run.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("run.v1");
}
