//! End to end, parity with transformers, faults.
