//! The engine: containers, exec, images, volumes, networks, build and events, usable without a daemon.
//!
//! Reading order: this file, [`config`], `run` of a container in [`container::create`] and
//! [`container::driver`], the pure state machine in [`container::state`].
//!
//! Laws: the engine never prints, never exits, never reads the environment or a home directory, and
//! never changes its own process (directory, mask, namespaces).
#![forbid(unsafe_code)]

mod apparmor;
pub mod build;
pub mod config;
pub mod container;
mod engine;
pub mod events;
pub mod image;
pub mod network;
mod rootfs;
pub mod system;
pub mod volume;

pub use barque_model::{Error, ErrorKind, Result};
pub use barque_store::Gone;
pub use barque_sys::pty::untaken_bytes;
pub use config::EngineConfig;
pub use engine::Engine;
