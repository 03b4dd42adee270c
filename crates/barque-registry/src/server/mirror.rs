//! Pull-through cache: what is missing is fetched from the upstream, stored, and streamed on while it arrives.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};

use barque_model::{Digest, Error, ErrorKind, Reference, Result};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{OnceCell, watch};

use super::MirrorConfig;
use super::app::block;
use super::manifests::stored;
use super::respond::{Problem, ReplyBody};
use super::route::Target;
use super::storage::{Finished, Name, Session, Storage};
use crate::wire::code;
use crate::{Blob, Client, Credentials, Descriptor, RawManifest};

/// Collected before it is written.
const BATCH_BYTES: usize = 512 * 1024;
/// Read for a waiting client at once.
const CHUNK_BYTES: u64 = 512 * 1024;

type Key = (Name, Digest);

/// The upstream and what is being fetched from it.
pub(super) struct Mirror {
    client: Client,
    domain: String,
    credentials: Credentials,
    storage: Arc<Storage>,
    fetches: Fetches,
}

type Fetches = Arc<Mutex<HashMap<Key, Arc<OnceCell<Arc<Fetch>>>>>>;

/// A blob on its way from the upstream.
pub(super) struct Fetch {
    size: u64,
    file: Arc<File>,
    state: watch::Receiver<State>,
}

#[derive(Clone, Default)]
struct State {
    written: u64,
    /// Set at the end: verified and stored, or why not.
    outcome: Option<std::result::Result<(), String>>,
}

impl Mirror {
    pub(super) fn new(config: MirrorConfig, storage: Arc<Storage>) -> Result<Self> {
        let MirrorConfig { upstream, credentials, mut client } = config;
        let (domain, plain) = parse_upstream(&upstream)?;
        if plain {
            client.insecure.push(domain.clone());
        }
        let client = Client::new(client)?;
        Ok(Self { client, domain, credentials, storage, fetches: Fetches::default() })
    }

    fn reference(&self, name: &Name) -> std::result::Result<Reference, Problem> {
        format!("{}/{}", self.domain, name.as_str()).parse().map_err(|_| Problem::name_invalid())
    }

    /// A manifest: by digest from the cache first, by tag from the cache when the upstream's tag has not moved or the
    /// upstream does not answer.
    pub(super) async fn manifest(&self, name: &Name, target: &Target) -> std::result::Result<RawManifest, Problem> {
        let (storage, owner, wanted) = (self.storage.clone(), name.clone(), target.clone());
        let cached = block(move || stored(&storage, &owner, &wanted)).await?;
        let repository = self.reference(name)?;
        let (reference, tag) = match target {
            Target::Digest(digest) => {
                if let Some(cached) = cached {
                    return Ok(cached);
                }
                (repository.with_digest(*digest), None)
            }
            Target::Tag(tag) => {
                let reference = repository.with_tag(tag.as_str()).map_err(|_| Problem::manifest_unknown())?;
                (reference, Some(tag.clone()))
            }
        };
        match self.fetch_manifest(&reference, cached.as_ref()).await {
            Ok(None) => cached.ok_or_else(Problem::manifest_unknown),
            Ok(Some(manifest)) => {
                let (storage, owner, keep) = (self.storage.clone(), name.clone(), manifest.clone());
                block(move || storage.put_manifest(&owner, &keep, None, tag.as_ref())).await?;
                Ok(manifest)
            }
            Err(error) => match cached {
                Some(cached) if error.kind() == ErrorKind::Unavailable => {
                    tracing::warn!(error = %error.chain(), "upstream does not answer, serving the cached manifest");
                    Ok(cached)
                }
                _ => Err(upstream_problem(&error, Problem::manifest_unknown())),
            },
        }
    }

    /// `None` when the cached manifest is current.
    async fn fetch_manifest(&self, reference: &Reference, cached: Option<&RawManifest>) -> Result<Option<RawManifest>> {
        if let Some(cached) = cached
            && self.client.head(reference, &self.credentials).await?.digest == cached.digest
        {
            return Ok(None);
        }
        let (manifest, _) = self.client.manifest(reference, &self.credentials).await?;
        Ok(Some(manifest))
    }

    pub(super) async fn blob_size(&self, name: &Name, digest: Digest) -> std::result::Result<u64, Problem> {
        let size = self.client.blob_size(&self.reference(name)?, digest, &self.credentials).await;
        size.map_err(|error| upstream_problem(&error, Problem::blob_unknown()))
    }

    pub(super) async fn tags(&self, name: &Name) -> std::result::Result<Vec<String>, Problem> {
        match self.client.tags(&self.reference(name)?, &self.credentials).await {
            Ok(mut tags) => {
                tags.sort();
                Ok(tags)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let (storage, owner) = (self.storage.clone(), name.clone());
                let tags = block(move || storage.tags(&owner)).await?;
                match tags.is_empty() {
                    true => Err(upstream_problem(&error, Problem::name_unknown())),
                    false => Ok(tags.iter().map(|tag| tag.as_str().to_owned()).collect()),
                }
            }
            Err(error) => Err(upstream_problem(&error, Problem::name_unknown())),
        }
    }

    pub(super) async fn referrers(&self, name: &Name, digest: Digest) -> std::result::Result<Vec<Descriptor>, Problem> {
        let found = self.client.referrers(&self.reference(name)?, digest, None, &self.credentials).await;
        found.map(|index| index.manifests).map_err(|error| upstream_problem(&error, Problem::name_unknown()))
    }

    /// Starts to fetch a blob, or joins a fetch under way.
    pub(super) async fn blob(&self, name: &Name, digest: Digest) -> std::result::Result<Arc<Fetch>, Problem> {
        let key = (name.clone(), digest);
        let cell = lock(&self.fetches).entry(key.clone()).or_default().clone();
        let fetch = cell.get_or_try_init(|| self.start(&key)).await;
        if fetch.is_err() {
            lock(&self.fetches).remove(&key);
        }
        fetch.cloned()
    }

    async fn start(&self, key: &Key) -> std::result::Result<Arc<Fetch>, Problem> {
        let (name, digest) = key;
        let size = self.blob_size(name, *digest).await?;
        let descriptor = Descriptor::new("application/octet-stream", *digest, size);
        let blob = self.client.blob(&self.reference(name)?, &descriptor, 0, &self.credentials).await;
        let blob = blob.map_err(|error| upstream_problem(&error, Problem::blob_unknown()))?;
        let (storage, owner) = (self.storage.clone(), name.clone());
        let (session, file) = block(move || {
            let session = storage.begin(&owner)?;
            let file = session.reader(&storage)?;
            Ok((session, file))
        })
        .await?;
        let (sender, state) = watch::channel(State::default());
        let (storage, fetches, key) = (self.storage.clone(), self.fetches.clone(), key.clone());
        // On its own: the blob is stored even when the client that wanted it goes away.
        tokio::spawn(async move {
            let id = session.id.clone();
            let outcome = store(blob, session, &storage, key.1, &sender).await.map_err(|error| error.to_string());
            if let Err(error) = &outcome {
                tracing::warn!(digest = %key.1, error, "fetch from upstream failed");
                let _ = tokio::task::spawn_blocking(move || storage.cancel(&id)).await;
            }
            lock(&fetches).remove(&key);
            sender.send_modify(|state| state.outcome = Some(outcome));
        });
        Ok(Arc::new(Fetch { size, file: Arc::new(file), state }))
    }
}

/// Writes a blob to an upload and finishes it.
async fn store(
    mut blob: Blob,
    mut session: Session,
    storage: &Arc<Storage>,
    digest: Digest,
    progress: &watch::Sender<State>,
) -> io::Result<()> {
    let mut more = true;
    while more {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES && more {
            match blob.next().await {
                None => more = false,
                Some(chunk) => {
                    let chunk = chunk?;
                    bytes += chunk.len();
                    batch.push(chunk);
                }
            }
        }
        let written = tokio::task::spawn_blocking(move || session.append(&batch).map(|()| session));
        session = written.await.map_err(io::Error::other)??;
        progress.send_modify(|state| state.written = session.size);
    }
    let storage = storage.clone();
    match tokio::task::spawn_blocking(move || storage.finish(session, digest)).await.map_err(io::Error::other)?? {
        Finished::Stored => Ok(()),
        Finished::WrongDigest(found) => Err(io::Error::other(format!("the upstream sent {found} for {digest}"))),
    }
}

impl Fetch {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// A part of the blob as it arrives. The last byte is held back until the digest is verified, so that nobody is
    /// ever given a whole wrong blob.
    pub(super) fn body(self: Arc<Self>, start: u64, length: u64) -> ReplyBody {
        let state = self.state.clone();
        let chunks =
            futures_util::stream::try_unfold((self, state, start), move |(fetch, mut state, position)| async move {
                let end = start + length;
                if position >= end {
                    return Ok(None);
                }
                let available = fetch.available(&mut state, position).await?;
                let count = available.min(end).saturating_sub(position).min(CHUNK_BYTES);
                let file = fetch.file.clone();
                let chunk = tokio::task::spawn_blocking(move || read_at(&file, position, count)).await;
                let chunk = chunk.map_err(io::Error::other)??;
                let position = position + chunk.len() as u64;
                Ok::<_, io::Error>(Some((chunk, (fetch, state, position))))
            });
        StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
    }

    /// Waits for bytes behind `position`; returns how many of the blob may be read.
    async fn available(&self, state: &mut watch::Receiver<State>, position: u64) -> io::Result<u64> {
        let limit = |state: &State| match &state.outcome {
            Some(Ok(())) => self.size,
            _ => state.written.min(self.size.saturating_sub(1)),
        };
        let state = state.wait_for(|state| state.outcome.is_some() || limit(state) > position).await;
        let state = state.map_err(|_| io::Error::other("the fetch was abandoned"))?;
        match &state.outcome {
            Some(Err(why)) => Err(io::Error::other(why.clone())),
            _ => Ok(limit(&state)),
        }
    }
}

fn read_at(file: &File, position: u64, count: u64) -> io::Result<Bytes> {
    let mut chunk = vec![0; usize::try_from(count).map_err(io::Error::other)?];
    file.read_exact_at(&mut chunk, position)?;
    Ok(chunk.into())
}

/// What a client is told about the upstream's trouble.
fn upstream_problem(error: &Error, missing: Problem) -> Problem {
    match error.kind() {
        ErrorKind::NotFound => missing,
        ErrorKind::Unauthorized | ErrorKind::Forbidden => {
            Problem::new(StatusCode::FORBIDDEN, code::DENIED, format!("the upstream refused: {}", error.message()))
        }
        ErrorKind::InvalidArgument => Problem::new(
            StatusCode::BAD_GATEWAY,
            code::UNKNOWN,
            format!("the upstream sent something unusable: {}", error.message()),
        ),
        _ => Problem::new(StatusCode::BAD_GATEWAY, code::UNKNOWN, format!("the upstream failed: {}", error.message())),
    }
}

/// The host of an upstream as it stands in references, and whether it is spoken to in the clear.
fn parse_upstream(text: &str) -> Result<(String, bool)> {
    let url = crate::client::mirror_url(text)?;
    if url.path() != "/" || !url.username().is_empty() {
        // Not the text, which may hold a password.
        return Err(Error::invalid(format!("upstream '{}' has a path or user", url.host_str().unwrap_or_default()))
            .with_hint("write host[:port] or http(s)://host[:port]"));
    }
    let host = url.host_str().unwrap_or_default();
    if matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return Ok(("docker.io".to_owned(), false));
    }
    // A bare name would read as a part of a path without its port.
    let bare = !host.contains('.') && host != "localhost";
    let domain = match url.port_or_known_default() {
        Some(port) if url.port().is_some() || bare => format!("{host}:{port}"),
        _ => host.to_owned(),
    };
    Ok((domain, url.scheme() == "http"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams() {
        for (text, domain, plain) in [
            ("docker.io", "docker.io", false),
            ("https://registry-1.docker.io", "docker.io", false),
            ("http://127.0.0.1:5000", "127.0.0.1:5000", true),
            ("https://r.example", "r.example", false),
            ("http://registry", "registry:80", true),
            ("registry:5000", "registry:5000", false),
        ] {
            assert_eq!(parse_upstream(text).unwrap(), (domain.to_owned(), plain), "{text}");
        }
        assert!(parse_upstream("https://r.example/prefix").is_err());
        assert!(parse_upstream("ftp://r.example").is_err());
    }
}
