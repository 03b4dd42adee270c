//! The `barque` binary: picks its role from the arguments.

fn main() {}
