//! The wire of the Docker Engine API, versions 1.24 to 1.56: structs, filters, query strings and stream framing.
//!
//! Nothing here does I/O. One module per noun; field names, `null` and omission follow what dockerd sends:
//! `Option<Vec<_>>` is a list that Docker sends as `null` when unset, `Vec<_>` one that is always a list,
//! and a field with `skip_serializing_if` is left out when empty.
//!
//! Decode with [`json::from_slice`] (not `serde_json` directly): it accepts what Go's decoder accepts, i.e.
//! `null` for every field, missing and unknown fields, and keys whose case differs.
#![forbid(unsafe_code)]

pub mod auth;
pub mod build;
pub mod build_extras;
pub mod container;
pub mod distribution;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod image;
pub mod json;
pub mod network;
pub mod plugin;
pub mod progress;
pub mod query;
pub mod stdcopy;
pub mod swarm;
pub mod system;
pub mod time;
pub mod version;
pub mod volume;

pub use error::ErrorResponse;
pub use filters::Filters;
pub use json::Empty;
pub use version::ApiVersion;
