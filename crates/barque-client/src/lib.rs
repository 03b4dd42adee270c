//! A client of the Docker Engine API: unix sockets, TCP, TLS and ssh, typed calls, streams and hijacked connections.
//!
//! ```no_run
//! # async fn f() -> Result<(), barque_client::Error> {
//! use barque_client::{Client, Host};
//! let client = Client::new(Host::parse("unix:///var/run/docker.sock")?);
//! for container in client.container_list(&Default::default()).await? {
//!     println!("{} {}", container.id, container.image);
//! }
//! # Ok(()) }
//! ```
//!
//! The API version is negotiated by a `HEAD /_ping` before the first call, unless one was set. Connections are
//! kept and used again once a reply was read to its end. Everything works on a current-thread runtime.
#![forbid(unsafe_code)]

pub mod archive;
mod body;
pub mod build_cache;
pub mod builder;
mod calls;
mod client;
mod connect;
mod error;
pub mod files;
mod head;
mod hijack;
mod host;
pub mod ssh_agent;
mod stream;
mod tls;

pub use body::Upload;
pub use calls::build::{BuildHeaders, BuildOutput};
pub use calls::container::{Archive, WaitHandle};
pub use client::{Client, ClientOptions, Request};
pub use connect::{Connection, Io};
pub use error::{Error, Result};
pub use hijack::{Hijacked, HijackedReader, HijackedWriter};
pub use host::Host;
pub use stream::{ByteStream, JsonStream};
pub use tls::TlsFiles;

/// A line on standard error. That nobody reads there is no error, and no reason to stop what is under way.
pub fn tell(line: &str) {
    use std::io::Write as _;
    let _nobody_reads = writeln!(std::io::stderr().lock(), "{line}");
}
