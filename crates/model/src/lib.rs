//! Qwen2.5-VL on libtorch: config, weights, vision, text, mRoPE, cache, sampling.
