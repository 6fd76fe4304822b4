//! The NCCL group, as far as a machine without a GPU shows it.
#![cfg(feature = "nccl")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use collective::{Error, NcclGroup, Store};

#[test]
fn without_a_gpu_the_forming_says_so() {
    if tch::Cuda::is_available() {
        return;
    }
    let (store, _) = Store::host(([127, 0, 0, 1], 0).into()).unwrap();
    let error = NcclGroup::form(&store, 1, 0, 1, 0, Duration::from_secs(5)).err().unwrap();
    assert!(matches!(&error, Error::Unsupported { what } if what.contains("no GPUs found")), "{error:?}");
}
