//! Weight files: mapped safetensors, atomic publish, Hugging Face export.
