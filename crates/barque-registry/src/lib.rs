//! The OCI distribution protocol (distribution-spec 1.1 and Docker Registry HTTP API V2), client and server.
//!
//! The client yields byte streams and takes byte sources; it knows no engine and no store. The server keeps its own
//! directory. Nothing here reads the environment, prints or exits.
//!
//! * [`Client`]: resolve, pull, push, list, delete, search, login.
//! * [`server`]: a registry and pull-through cache.
//! * [`manifest`] and [`media`]: typed manifests and media types.
//! * [`dockerconfig`]: the formats of `~/.docker/config.json` and of credential helpers.
#![forbid(unsafe_code)]

mod challenge;
pub mod client;
mod credentials;
pub mod dockerconfig;
pub mod manifest;
pub mod media;
pub mod server;
mod wire;

pub use client::{Blob, BlobSource, BytesSource, Client, ClientConfig, FileSource, Login, ProxyConfig};
pub use client::{PushBlob, Pushed, Resolved, SearchResult, lookup_host};
pub use credentials::{AuthConfig, Credentials};
pub use manifest::{Descriptor, Document, Index, Manifest, RawManifest};
