//! Weight files: mapped safetensors, atomic publish, Hugging Face export.

mod digest;
mod export;
mod header;
mod manifest;
mod pieces;
mod publish;
mod state;
pub mod weights;

pub use digest::{parts_digest, sha256_file, tensor_digest, weights_digest};
pub use export::{Export, Files, SHARD_BYTES, create_folder, export, write_file, write_tensors};
pub use manifest::{FileDigest, MANIFEST, Manifest, stays_within};
pub use publish::{PublishError, Staging, verify};
pub use safetensors::tensor::{Dtype, View};
pub use state::{STATE_ABOUT, StateAbout};
