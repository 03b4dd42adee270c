//! A registry: distribution-spec 1.1 over a directory, and a pull-through cache.

use std::path::PathBuf;
use std::time::Duration;

use barque_model::{Error, Result};
use tokio::net::TcpListener;

use crate::{ClientConfig, Credentials};

/// Settings of a registry.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Directory of the registry; made when missing.
    pub root: PathBuf,
    /// `htpasswd` file with bcrypt hashes (`htpasswd -B`); nobody needs to log in when `None`. Read again when changed.
    pub htpasswd: Option<PathBuf>,
    /// Realm named in the challenge.
    pub realm: String,
    /// Certificate and key; plain HTTP when `None`.
    pub tls: Option<TlsFiles>,
    /// Be a pull-through cache of another registry; pushes are then refused.
    pub mirror: Option<MirrorConfig>,
    /// Whether clients may delete manifests, tags and blobs.
    pub allow_delete: bool,
    /// Largest manifest accepted, in bytes.
    pub manifest_bytes_max: u64,
    /// How often garbage is collected; never when `None`.
    pub gc_interval: Option<Duration>,
    /// How long unreferenced content is kept.
    pub gc_grace: Duration,
    /// Whether manifests that no tag, index or subject keeps are garbage too.
    pub gc_untagged: bool,
    /// Whether content is forced to disk before it is acknowledged.
    pub durable: bool,
}

impl ServerConfig {
    /// The defaults for a directory: open to all, plain HTTP, deletion allowed, garbage collected daily.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            htpasswd: None,
            realm: "barque registry".to_owned(),
            tls: None,
            mirror: None,
            allow_delete: true,
            manifest_bytes_max: crate::manifest::MANIFEST_BYTES_MAX,
            gc_interval: Some(Duration::from_secs(24 * 3600)),
            gc_grace: Duration::from_secs(3600),
            gc_untagged: false,
            durable: true,
        }
    }
}

/// PEM files for TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What a pull-through cache stands in front of.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// The registry: URL or `host[:port]`; `docker.io` and `https://registry-1.docker.io` mean Docker Hub.
    pub upstream: String,
    /// Credentials for it.
    pub credentials: Credentials,
    /// How to reach it.
    pub client: ClientConfig,
}

/// What a collection removed (or would remove).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Manifests removed.
    pub manifests: usize,
    /// Blobs removed.
    pub blobs: usize,
    /// Abandoned uploads removed.
    pub uploads: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// Serves until `shutdown` completes, then lets requests in flight finish for a moment.
///
/// # Errors
/// When the directory, certificate or htpasswd file cannot be used.
pub async fn serve<S>(_config: ServerConfig, _listeners: Vec<TcpListener>, _shutdown: S) -> Result<()>
where
    S: Future<Output = ()> + Send + 'static,
{
    Err(Error::not_implemented("registry server"))
}

/// Collects garbage in a directory now. Safe while a registry serves it only when done by that process.
///
/// # Errors
/// When the directory cannot be read.
pub async fn collect_garbage(_config: &ServerConfig, _dry_run: bool) -> Result<GcReport> {
    Err(Error::not_implemented("registry server"))
}
