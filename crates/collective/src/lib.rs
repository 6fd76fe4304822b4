//! Collective operations between the workers of a run.
//!
//! One trait, [`Group`], with three transports: [`GlooGroup`] over libtorch's c10d between processes on
//! CPU, `NcclGroup` (cargo feature `nccl`) between GPUs, and [`LocalGroup`] between threads of one process,
//! for tests. Every operation returns a [`Work`] at once, so that communication overlaps computation, and
//! [`Work::wait`] has a deadline. [`Nodes`] puts a world together with its parts on nodes. What ends a group early is typed: [`Error`].
//!
//! A group lives for one epoch. When an operation fails, the group is of no more use: shut it down and form
//! the next epoch's group on the same [`Store`], or on another. The tensor thread owns the group; any thread may stop
//! a wait through the group's [`Aborter`], and the forming of one through its [`Patience`].
//!
//! ```
//! use std::{thread, time::Duration};
//! use collective::{Group, LocalGroup, ReduceOp};
//! use tch::{Device, Kind, Tensor};
//!
//! let ranks = LocalGroup::world(2).into_iter().map(|group| {
//!     thread::spawn(move || -> Result<f64, collective::Error> {
//!         let gradient = Tensor::full([4], 1.0 + group.rank() as f64, (Kind::Float, Device::Cpu));
//!         group.all_reduce(&gradient, ReduceOp::Sum)?.wait(Duration::from_secs(5))?;
//!         Ok(gradient.double_value(&[0]))
//!     })
//! });
//! for rank in ranks.collect::<Vec<_>>() {
//!     assert_eq!(rank.join().unwrap(), Ok(3.0));
//! }
//! ```

mod buffer;
mod check;
mod error;
mod gloo;
mod group;
mod local;
mod native;
#[cfg(feature = "nccl")]
mod nccl;
mod nodes;
mod patience;
mod reduce;
mod sent;
mod shim;
mod store;
mod work;

pub use buffer::Buffer;
pub use error::{Error, Operation, Result};
pub use gloo::{Bind, GlooGroup};
pub use group::{Aborter, Group, ReduceOp};
pub use local::LocalGroup;
#[cfg(feature = "nccl")]
pub use nccl::NcclGroup;
pub use nodes::{Nodes, Parts};
pub use patience::Patience;
pub use sent::Sent;
pub use store::Store;
pub use work::Work;
