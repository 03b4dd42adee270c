//! Control groups, version 1 and 2.

pub mod stats;
