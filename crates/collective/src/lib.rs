//! Collective operations over libtorch's c10d (Gloo, NCCL), and in-process.
