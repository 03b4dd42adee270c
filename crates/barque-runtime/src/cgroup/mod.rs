//! Control groups, version 1 and 2.
//!
//! [`layout`] finds out which of them this machine has, [`plan`] turns limits into writes (pure),
//! [`devices`] compiles device rules, [`parent`] prepares the group containers live in, [`dir`] works on one
//! group through its directory descriptor, [`live`] on all groups of a running container.

pub mod devices;
pub mod dir;
pub mod layout;
pub mod live;
pub mod parent;
pub mod plan;
pub mod stats;

pub use layout::Layout;
pub use live::Group;
