//! What the CPU does in its own way: training in fewer passes over memory (norms, gates, attention over packed samples,
//! each with its derivative), and decoding, where a step is so short that every pass over memory and every call counts:
//! products with weights packed once a rollout, one pass for each norm, one for all of attention, one for choosing the
//! tokens.
//!
//! ```text
//! tokens → Stack::step: (norm → q, k, v → attend → output + x → norm → gate · up → down + x) × layers → logits → choose
//! ```

mod attend;
mod choose;
mod cohort;
mod element;
mod gate;
mod keep;
mod lanes;
mod layer;
mod norm;
mod packed;
mod prefers;
mod product;
mod products;

pub(crate) use choose::choose;
pub(crate) use cohort::RowCohort;
pub(crate) use element::{Bf16, Element};
pub(crate) use gate::{gated, gated_backward};
pub(crate) use keep::keep;
pub(crate) use layer::Stack;
pub(crate) use norm::{rms_norm, rms_norm_backward};
pub(crate) use packed::{Inputs, attend_packed, attend_packed_backward};
pub(crate) use prefers::prefers_bf16;
