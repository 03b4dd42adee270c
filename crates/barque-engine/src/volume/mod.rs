//! Volumes: directories under the data root that outlive containers.

pub mod types;
