//! Run and host files: raw, then resolved.
//!
//! A recipe is read as YAML, `--set key=value` is laid over it, each stage's own keys are laid over the
//! base, and only then does it become a [`Run`]: checked, complete, and what the rest of the program sees.

mod hosts;
mod run;

pub use hosts::*;
pub use run::*;
