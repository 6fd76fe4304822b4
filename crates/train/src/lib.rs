//! Blocks, block-wise backward, AdamW with f32 masters, schedules.
