//! Steps → calls of the Engine API.

pub mod body;
mod body_mounts;
mod body_network;
mod body_resources;
mod build_cache;
mod build_extras;
pub mod context;
pub mod engine;
pub mod execute;
pub mod files;
pub mod hooks;
pub mod images;
pub mod observe;
mod pre_start;
pub mod preflight;
pub mod progress;
pub mod provider;
mod renew;
pub mod resources;
pub mod teardown;
pub mod wait;
