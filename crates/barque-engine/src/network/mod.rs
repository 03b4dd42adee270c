//! Networks: definitions, endpoints, published ports, names.

pub mod types;
