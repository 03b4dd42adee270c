//! The daemon: the Docker Engine API over HTTP, on an engine.
//!
//! Reading order: [`server`] (listeners, connections, the end), `router` (versions, headers, dispatch), then one
//! file per noun in `routes` (thin handlers), `convert` (wire ⇄ engine, pure) and `filter` (list filters, pure).
//! Sentences that users and scripts know by heart are in `wording`.
#![forbid(unsafe_code)]

pub mod config;
mod convert;
mod detach;
mod filter;
mod http;
mod listen;
mod pidfile;
mod rest;
mod router;
mod routes;
pub mod server;
mod state;
mod tls;
mod wording;

pub use config::{Defaults, Flags, Settings};
pub use pidfile::Pidfile;
pub use server::{Daemon, DaemonConfig, Handle};
pub use state::Product;
