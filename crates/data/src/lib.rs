//! Manifests, labels, the sampling plan, prompts and answers: no pixels, no tensors.
