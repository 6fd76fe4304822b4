//! Acts: one process a device, a session with the coordinator and the step pipeline.

fn main() {}
