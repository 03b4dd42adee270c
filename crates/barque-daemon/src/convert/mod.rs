//! Wire ⇄ engine, one file per noun. Nothing here does I/O.

pub(crate) mod auth;
pub(crate) mod build;
pub(crate) mod build_extras;
pub(crate) mod create;
pub(crate) mod document;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod progress;
pub(crate) mod resources;
pub(crate) mod restart;
pub(crate) mod security;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod summary;
pub(crate) mod system;
pub(crate) mod volume;

use std::net::IpAddr;

use barque_model::{Error, Result};

/// An address, or `None` for an empty text.
pub(crate) fn address(text: &str, what: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(format!("invalid {what}: {text}: it is not an IP address")))
}

/// Text of an optional address, empty if there is none.
pub(crate) fn shown(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// `None` for an empty list, as Docker says `null`.
pub(crate) fn listed<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}
