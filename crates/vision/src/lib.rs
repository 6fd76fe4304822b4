//! Pictures as Qwen2.5-VL takes them: decode, distort, resize, patches; no tensors.
