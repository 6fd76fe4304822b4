//! Qwen2.5-VL on libtorch: config, weights, vision, text, mRoPE, cache, sampling.
//!
//! ```text
//! config.json → Config ─┬→ Params::load(weights) ─────────────┐
//! tokenizer, template ──┴→ Processor::prompt → Prompt ─┐      │
//! pictures, videos → vision → pixel_values ─────────────┤      ▼
//!                      Packed [prompt][c1]…[cK] ───────┴→ Qwen::{vision,text}_chain → head::logprobs
//!                                                     └→ Rollout::step … → responses
//! ```
//! One thread owns all tensors. Nothing here keeps weights: they are handed in, so that training may shard them.

pub mod config;
pub mod fresh;
pub mod head;
pub mod keys;
pub mod names;
pub mod peft;

mod attention;
mod cache;
mod chat;
mod cohort;
mod cpu;
mod cutting;
mod decoder;
mod derivative;
mod draws;
mod dropout;
mod fields;
mod generate;
mod linear;
mod lora;
mod mrope;
mod ops;
mod packed;
mod params;
mod processor;
mod prompt;
mod qwen;
mod sampling;
mod shim;
#[cfg(test)]
mod testing;
mod text;
mod tower;
mod windows;

pub use chat::Part;
pub use config::{Config, ConfigError};
pub use draws::DrawKey;
pub use dropout::Dropout;
pub use generate::{Limits, Request, Response, Rollout};
pub use lora::{Adapters, is_adapter};
pub use mrope::Medium;
pub use ops::backward;
pub use packed::{Packed, PackedSample, Segment, Targets};
pub use params::{LoadError, Params};
pub use processor::{Processor, ProcessorError, SpecialTokens};
pub use prompt::{Prompt, PromptError};
pub use qwen::{Forward, Link, Qwen, run};
pub use sampling::{Sampling, SamplingError};
pub use tower::{VisionBatch, pixel_values};
