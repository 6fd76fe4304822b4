//! Run and host files: raw, then resolved.
//!
//! A recipe is read as YAML, `--set key=value` is laid over it, each stage's own keys are laid over the
//! base, and only then does it become a [`Run`]: checked, complete, and what the rest of the program sees.
//!
//! ```
//! let recipe = "
//! run: { name: example, output: runs/example }
//! model: { path: models/tiny }
//! optimizer: { lr: 1.0e-5 }
//! stages:
//!   - { name: explore, steps: 20, rollout: { responses: 12 } }
//!   - { name: stabilise, steps: 20, reward: { parts: { std_penalty: 0 } } }
//! ";
//! let run = settings::parse_run("example.yaml", recipe, &["stages.explore.steps=30".into()])?;
//! assert_eq!((run.stages[0].steps, run.stages[0].rollout.responses, run.stages[1].rollout.responses), (30, 12, 6));
//! assert_eq!(run.stages[1].optimizer.lr, 1e-5);
//! # Ok::<(), settings::Error>(())
//! ```

mod check;
mod digest;
mod error;
mod files;
mod hosts;
mod later;
mod layers;
mod limits;
mod load;
mod model_shape;
mod origin;
mod position;
mod raw;
mod run;
mod schedule;
mod sections;
mod shape;

pub use error::{Error, Problem};
pub use hosts::*;
pub use load::{default_run, load_hosts, load_run, parse_hosts, parse_run};
pub use model_shape::{BlockSize, LinearMap, ModelShape, VisionShape};
pub use run::*;
pub use sections::*;
