//! Decides: membership, epochs, step commit, rewards, journal, launch.

fn main() {}
