//! Compose: files → project → plan → calls of the Docker Engine API.
//!
//! [`file`] reads Compose files into a typed project and touches the world only to read.
#![forbid(unsafe_code)]

pub mod apply;
pub mod cli;
pub mod file;
pub mod plan;
