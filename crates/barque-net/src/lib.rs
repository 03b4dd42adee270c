//! Container networks: definitions, addresses, links, packet filter, published ports and names.
//!
//! The way through the crate follows one idea, parse → plan → apply:
//! [`network`] and [`endpoint`] hold typed definitions, [`plan`] turns them into inert, printable
//! lists of link and packet-filter operations, and [`Fabric`] applies these over netlink.
//! No helper program is started; everything is blocking but the relay and the DNS responder,
//! which share one thread of their own.
//!
//! ```text
//! Fabric::open ─ restore ─┬─ ensure_network ──────────────── remove_network
//!                         └─ netns ─ attach ─ publish ─ … ─ release | disconnect
//! ```
#![forbid(unsafe_code)]

mod apply;
mod diagnose;
pub mod dns;
pub mod endpoint;
pub mod fabric;
pub mod files;
mod filter;
mod flows;
mod host;
mod inside;
mod io;
pub mod ipam;
pub mod mac;
pub mod netns;
pub mod network;
pub mod plan;
mod pool;
pub mod ports;
mod watch;

pub use diagnose::{forward_policies, input_policies};
pub use endpoint::{Attached, EndpointDef, InterfaceStats};
pub use fabric::{Fabric, FabricConfig, Finding, Gateway, Hop, PoolConfig, Publication};
pub use mac::Mac;
pub use netns::NetNs;
pub use network::{BridgeOptions, Driver, NetworkDef, Pool};
pub use ports::{PortBinding, PortRequest, Proto, Reservation, Target};
