//! The client: resolve, pull, push, list, delete, search, login.
//!
//! One [`Client`] is shared by a whole engine and cheap to clone. It tries a registry's mirrors first, remembers which
//! one answered, keeps connections and tokens, and retries what failed for a passing reason. Credentials are given with
//! each call and go to the registry in the reference and the token server it names, to nobody else.

mod config;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use barque_model::{Digest, Error, Platform, Reference, Result};
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncRead;

use crate::{Credentials, Descriptor, Document, Index, Manifest, RawManifest};

pub use config::{ClientConfig, ProxyConfig};

/// A registry client; clones share connections, tokens and settings.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
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

/// A blob's bytes: a [`Stream`] of chunks and an [`AsyncRead`]. Ends after exactly the announced size or with an error
/// (`std::io::Error` wrapping a [`barque_model::Error`]). The digest is the consumer's to check, or see
/// [`Blob::verified`].
pub struct Blob {
    size: u64,
}

impl Blob {
    /// Total size of the blob in bytes, including what lies before the offset.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Checks the digest too: the last chunk is followed by an error when the content is not what its digest says.
    /// Only for blobs read from offset 0.
    #[must_use]
    pub fn verified(self) -> Self {
        self
    }
}

impl Stream for Blob {
    type Item = std::io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Err(std::io::Error::other(pending()))))
    }
}

impl AsyncRead for Blob {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(std::io::Error::other(pending())))
    }
}

fn pending() -> Error {
    Error::not_implemented("registry client")
}

impl BlobSource for FileSource {
    fn open(&self, _offset: u64) -> SourceFuture<'_> {
        Box::pin(async { Err(std::io::Error::other(pending())) })
    }
}

impl BlobSource for BytesSource {
    fn open(&self, _offset: u64) -> SourceFuture<'_> {
        Box::pin(async { Err(std::io::Error::other(pending())) })
    }
}

impl Client {
    /// Checks the settings and prepares a client; no connection is made.
    ///
    /// # Errors
    /// `InvalidArgument` for a mirror, proxy or insecure registry that is not valid.
    pub fn new(config: ClientConfig) -> Result<Self> {
        Ok(Self { inner: Arc::new(Inner { config }) })
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
    pub async fn resolve(&self, _r: &Reference, _platform: Option<&Platform>, _c: &Credentials) -> Result<Resolved> {
        Err(pending())
    }

    /// The manifest or index a reference names, unchosen.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn manifest(&self, _reference: &Reference, _c: &Credentials) -> Result<(RawManifest, Document)> {
        Err(pending())
    }

    /// Digest, size and type of what a reference names, without its body where the registry allows it.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn head(&self, _reference: &Reference, _credentials: &Credentials) -> Result<Descriptor> {
        Err(pending())
    }

    /// A blob's bytes from `offset` on. Fails over, retries and resumes by itself.
    ///
    /// # Errors
    /// `NotFound` when no endpoint has it; `Unavailable` when none answers.
    pub async fn blob(&self, _r: &Reference, _d: &Descriptor, _offset: u64, _c: &Credentials) -> Result<Blob> {
        Err(pending())
    }

    /// A small blob, such as an image's configuration, whole and verified.
    ///
    /// # Errors
    /// As [`Client::blob`]; `InvalidArgument` when it is larger than `bytes_max` or its digest is wrong.
    pub async fn blob_bytes(&self, _r: &Reference, _d: &Descriptor, _max: u64, _c: &Credentials) -> Result<Bytes> {
        Err(pending())
    }

    /// Whether the registry (not a mirror) holds a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn blob_exists(&self, _r: &Reference, _digest: Digest, _c: &Credentials) -> Result<bool> {
        Err(pending())
    }

    /// Brings one blob to the registry: looks for it, tries a mount, else uploads, resuming after failures.
    ///
    /// # Errors
    /// `Unauthorized`/`Forbidden` in Docker's wording; `Unavailable` after the last retry.
    pub async fn push_blob(&self, _blob: PushBlob<'_>, _credentials: &Credentials) -> Result<Pushed> {
        Err(pending())
    }

    /// Stores a manifest under the reference's tag, or under its digest when it has no tag. Returns the digest.
    ///
    /// # Errors
    /// As [`Client::push_blob`].
    pub async fn put_manifest(&self, _r: &Reference, _manifest: &RawManifest, _c: &Credentials) -> Result<Digest> {
        Err(pending())
    }

    /// All tags of a repository, as the registry sorts them.
    ///
    /// # Errors
    /// `NotFound` when there is no such repository.
    pub async fn tags(&self, _reference: &Reference, _credentials: &Credentials) -> Result<Vec<String>> {
        Err(pending())
    }

    /// All repositories of a registry (`host[:port]`).
    ///
    /// # Errors
    /// Many registries refuse.
    pub async fn catalog(&self, _registry: &str, _credentials: &Credentials) -> Result<Vec<String>> {
        Err(pending())
    }

    /// Deletes the manifest or tag a reference names.
    ///
    /// # Errors
    /// `Unsupported` when the registry does not allow it.
    pub async fn delete_manifest(&self, _reference: &Reference, _credentials: &Credentials) -> Result<()> {
        Err(pending())
    }

    /// Deletes a blob from a repository.
    ///
    /// # Errors
    /// `Unsupported` when the registry does not allow it.
    pub async fn delete_blob(&self, _r: &Reference, _digest: Digest, _c: &Credentials) -> Result<()> {
        Err(pending())
    }

    /// The manifests whose `subject` is `digest`, optionally of one artifact type. Falls back to the tag scheme of
    /// distribution-spec 1.1 on older registries.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn referrers(
        &self,
        _reference: &Reference,
        _digest: Digest,
        _artifact_type: Option<&str>,
        _credentials: &Credentials,
    ) -> Result<Index> {
        Err(pending())
    }

    /// Searches the index; `HOST/TERM` asks that host. At most `limit` hits (1 to 100).
    ///
    /// # Errors
    /// `Unavailable` when the index does not answer.
    pub async fn search(&self, _term: &str, _limit: u32, _credentials: &Credentials) -> Result<Vec<SearchResult>> {
        Err(pending())
    }

    /// Checks credentials against a registry (`host[:port]`, a URL, or empty for Docker Hub): `POST /auth`.
    ///
    /// # Errors
    /// `Unauthorized` when they are refused.
    pub async fn login(&self, _registry: &str, _credentials: &Credentials) -> Result<Login> {
        Err(pending())
    }
}
