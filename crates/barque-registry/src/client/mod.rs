//! The client: resolve, pull, push, list, delete, search, login.
//!
//! One [`Client`] is shared by a whole engine and cheap to clone. It tries a registry's mirrors first, remembers which
//! one answered, keeps connections and tokens, and retries what failed for a passing reason. Credentials are given with
//! each call and go to the registry in the reference and the token server it names, to nobody else.

mod account;
mod auth;
mod blob;
mod config;
mod connect;
mod dns;
mod download;
mod endpoint;
mod failure;
mod list;
mod push;
mod request;
mod resolve;
mod tls;

use std::pin::Pin;
use std::sync::Arc;

use barque_model::{Digest, Platform, Reference, Result};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncSeekExt as _};

use crate::{Credentials, Descriptor, Document, Index, Manifest, RawManifest};

pub use blob::Blob;
pub(crate) use config::mirror_url;
pub use config::{ClientConfig, ProxyConfig};
pub(crate) use connect::percent_decode;
pub use dns::lookup_host;
pub use download::Download;
pub(crate) use push::referrer_descriptor;
pub(crate) use tls::load_identity;

/// A registry client; clones share connections, tokens and settings.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    directory: endpoint::Directory,
    connector: connect::Connector,
    http: request::Pool,
    auth: auth::Auth,
    limits: request::Limits,
}

/// The scope a token needs for reading a repository.
fn pull_scope(path: &str) -> String {
    format!("repository:{path}:pull")
}

/// What a reference stands for on one platform.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Digest the tag names: the index's when there is one, else the manifest's. This is the `RepoDigest`.
    pub digest: Digest,
    /// The index, when the tag names one.
    pub index: Option<RawManifest>,
    /// The image's manifest, exact bytes.
    pub manifest: RawManifest,
    /// The same, parsed.
    pub image: Manifest,
    /// Platform of the chosen index entry.
    pub platform: Option<Platform>,
}

/// The outcome of a successful login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// `Login Succeeded`.
    pub status: String,
    /// Refresh token to keep instead of the password; empty when the registry gives none.
    pub identity_token: String,
}

/// One hit of a search, with the field names of the index API (`GET /v1/search`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Repository name.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// Stars.
    pub star_count: i64,
    /// Whether it is one of Docker's official images.
    pub is_official: bool,
    /// Whether it was built automatically (deprecated by Docker).
    pub is_automated: bool,
}

/// How a blob got to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It was there (`Layer already exists`).
    Exists,
    /// The registry linked it from another of its repositories (`Mounted from X`).
    Mounted {
        /// That repository's path.
        from: String,
    },
    /// It was sent (`Pushed`).
    Uploaded,
}

/// Where a blob's bytes come from when it is pushed. Opened again at an offset when an upload is resumed.
pub trait BlobSource: Send + Sync {
    /// Opens the content at `offset` bytes.
    fn open(&self, offset: u64) -> SourceFuture<'_>;
}

/// What [`BlobSource::open`] returns.
pub type SourceFuture<'a> = Pin<Box<dyn Future<Output = std::io::Result<SourceReader>> + Send + 'a>>;
/// The reader of an opened source.
pub type SourceReader = Pin<Box<dyn AsyncRead + Send>>;

/// A blob in a file.
#[derive(Debug, Clone)]
pub struct FileSource(pub std::path::PathBuf);

/// A blob in memory.
#[derive(Debug, Clone)]
pub struct BytesSource(pub Bytes);

/// One blob to push.
pub struct PushBlob<'a> {
    /// The repository; tag and digest are ignored.
    pub reference: &'a Reference,
    /// Digest and size of the content.
    pub descriptor: &'a Descriptor,
    /// The content.
    pub source: &'a dyn BlobSource,
    /// Repositories (paths) of the same registry that are known to hold the blob, tried for a mount in this order.
    pub mount_from: &'a [String],
    /// Told the number of bytes the registry has been sent so far; may go back when an upload is resumed.
    pub progress: Option<&'a (dyn Fn(u64) + Send + Sync)>,
}

impl BlobSource for FileSource {
    fn open(&self, offset: u64) -> SourceFuture<'_> {
        Box::pin(async move {
            let mut file = tokio::fs::File::open(&self.0).await?;
            file.seek(std::io::SeekFrom::Start(offset)).await?;
            file.set_max_buf_size(256 * 1024);
            Ok(Box::pin(file) as SourceReader)
        })
    }
}

impl BlobSource for BytesSource {
    fn open(&self, offset: u64) -> SourceFuture<'_> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let rest = self.0.slice(start..);
        Box::pin(async move { Ok(Box::pin(std::io::Cursor::new(rest)) as SourceReader) })
    }
}

impl Client {
    /// Checks the settings and prepares a client; no connection is made.
    ///
    /// # Errors
    /// `InvalidArgument` for a mirror, proxy or insecure registry that is not valid.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let directory = endpoint::Directory::new(&config)?;
        let proxies = config::Proxies::parse(&config.proxy)?;
        let tls = tls::Tls::new(config.certs_dirs.clone(), config.extra_roots.clone());
        let connector = connect::Connector::new(tls, directory.insecure.clone(), proxies, config.connect_timeout);
        let http = request::pool(connector.clone());
        let (auth, limits) = (auth::Auth::default(), request::Limits::default());
        Ok(Self { inner: Arc::new(Inner { config, directory, connector, http, auth, limits }) })
    }

    /// The settings in force.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// Finds the manifest a reference names and, in an index, the one for `platform` (the host's when `None`).
    /// Needs a tag or digest ([`Reference::with_default_tag`]); with both, the digest counts.
    ///
    /// # Errors
    /// Docker's wording, such as `manifest for X not found: manifest unknown: manifest unknown`; every endpoint tried
    /// is listed in the hint.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        credentials: &Credentials,
    ) -> Result<Resolved> {
        self.inner.resolve(reference, platform, credentials).await
    }

    /// The manifest or index a reference names, unchosen.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn manifest(&self, reference: &Reference, credentials: &Credentials) -> Result<(RawManifest, Document)> {
        self.inner.manifest(reference, credentials).await
    }

    /// Digest, size and type of what a reference names, without its body where the registry allows it.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn head(&self, reference: &Reference, credentials: &Credentials) -> Result<Descriptor> {
        self.inner.head(reference, credentials).await
    }

    /// A blob's bytes from `offset` on. Fails over, retries and resumes by itself.
    ///
    /// # Errors
    /// `NotFound` when no endpoint has it; `Unavailable` when none answers.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
        credentials: &Credentials,
    ) -> Result<Blob> {
        self.inner.clone().blob(reference, descriptor, offset, credentials).await
    }

    /// A small blob, such as an image's configuration, whole and verified.
    ///
    /// # Errors
    /// As [`Client::blob`]; `InvalidArgument` when it is larger than `bytes_max` or its digest is wrong.
    pub async fn blob_bytes(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        bytes_max: u64,
        credentials: &Credentials,
    ) -> Result<Bytes> {
        self.inner.clone().blob_bytes(reference, descriptor, bytes_max, credentials).await
    }

    /// A blob's size in bytes, as the first endpoint that has it tells.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub async fn blob_size(&self, reference: &Reference, digest: Digest, credentials: &Credentials) -> Result<u64> {
        self.inner.blob_size(reference, digest, credentials).await
    }

    /// Whether the registry (not a mirror) holds a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn blob_exists(&self, reference: &Reference, digest: Digest, credentials: &Credentials) -> Result<bool> {
        self.inner.blob_exists(reference, digest, credentials).await
    }

    /// Brings one blob to the registry: looks for it, tries a mount, else uploads, resuming after failures.
    ///
    /// # Errors
    /// `Unauthorized`/`Forbidden` in Docker's wording; `Unavailable` after the last retry.
    pub async fn push_blob(&self, blob: PushBlob<'_>, credentials: &Credentials) -> Result<Pushed> {
        self.inner.push_blob(&blob, credentials).await
    }

    /// Stores a manifest under the reference's tag, or under its digest when it has no tag. Returns the digest.
    ///
    /// # Errors
    /// As [`Client::push_blob`].
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &RawManifest,
        credentials: &Credentials,
    ) -> Result<Digest> {
        self.inner.put_manifest(reference, manifest, credentials).await
    }

    /// All tags of a repository, as the registry sorts them.
    ///
    /// # Errors
    /// `NotFound` when there is no such repository.
    pub async fn tags(&self, reference: &Reference, credentials: &Credentials) -> Result<Vec<String>> {
        self.inner.tags(reference, credentials).await
    }

    /// All repositories of a registry (`host[:port]`).
    ///
    /// # Errors
    /// Many registries refuse.
    pub async fn catalog(&self, registry: &str, credentials: &Credentials) -> Result<Vec<String>> {
        self.inner.catalog(registry, credentials).await
    }

    /// Deletes the manifest or tag a reference names.
    ///
    /// # Errors
    /// `Unsupported` when the registry does not allow it.
    pub async fn delete_manifest(&self, reference: &Reference, credentials: &Credentials) -> Result<()> {
        self.inner.delete_manifest(reference, credentials).await
    }

    /// Deletes a blob from a repository.
    ///
    /// # Errors
    /// `Unsupported` when the registry does not allow it.
    pub async fn delete_blob(&self, reference: &Reference, digest: Digest, credentials: &Credentials) -> Result<()> {
        let path = format!("{}/blobs/{digest}", reference.path());
        self.inner.delete(reference, &path, credentials).await
    }

    /// The manifests whose `subject` is `digest`, optionally of one artifact type. Falls back to the tag scheme of
    /// distribution-spec 1.1 on older registries.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: Digest,
        artifact_type: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Index> {
        self.inner.referrers(reference, digest, artifact_type, credentials).await
    }

    /// Searches the index; `HOST/TERM` asks that host. At most `limit` hits (1 to 100).
    ///
    /// # Errors
    /// `Unavailable` when the index does not answer.
    pub async fn search(&self, term: &str, limit: u32, credentials: &Credentials) -> Result<Vec<SearchResult>> {
        self.inner.search(term, limit, credentials).await
    }

    /// Checks credentials against a registry (`host[:port]`, a URL, or empty for Docker Hub): `POST /auth`.
    ///
    /// # Errors
    /// `Unauthorized` when they are refused.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<Login> {
        self.inner.login(registry, credentials).await
    }
}
