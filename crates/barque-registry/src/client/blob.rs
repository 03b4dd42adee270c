//! Reading blobs: a stream that resumes by itself and never exceeds the announced size.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use barque_model::{Digest, Error, ErrorKind, Reference, Result};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::endpoint::{Endpoint, Tour};
use super::failure::Failure;
use super::request::{Answer, Ask, root_cause};
use super::{Inner, pull_scope};
use crate::{Credentials, Descriptor, media, wire};

/// Progress after which earlier failures are forgotten, in bytes: a long download over a bad line gets through.
const FORGIVEN_AFTER: u64 = 1024 * 1024;

/// A blob's bytes: a [`Stream`] of chunks and an [`AsyncRead`]. Ends after exactly the announced size or with an error
/// (`std::io::Error` wrapping a [`barque_model::Error`]). The digest is the consumer's to check, or see
/// [`Blob::verified`].
pub struct Blob {
    digest: Digest,
    size: u64,
    offset: u64,
    chunks: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// What an [`AsyncRead`] has not taken yet.
    pending: Bytes,
}

impl Blob {
    /// Total size of the blob in bytes, including what lies before the offset.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the stream began.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next chunk, with the error as it is; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` when no endpoint delivers, `InvalidArgument` when the content has the wrong size or digest.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.next().await.transpose().map_err(own_error)
    }

    /// Checks the digest too: when the content is not what its digest says, its last chunk is not delivered but an
    /// error is. Only for blobs read from offset 0; others end with an error.
    #[must_use]
    pub fn verified(self) -> Self {
        let Self { digest, size, offset, chunks, pending } = self;
        let mut hasher = barque_model::Hasher::new();
        let mut seen = offset;
        let checked = chunks.and_then(move |chunk| {
            hasher.update(&chunk);
            seen += chunk.len() as u64;
            let verdict = if seen < size { None } else { Some(std::mem::take(&mut hasher).finish()) };
            std::future::ready(match verdict {
                Some(found) if found != digest => Err(io::Error::other(wrong_digest(digest, found))),
                _ => Ok(chunk),
            })
        });
        // An empty blob has no chunk to hang the check on.
        let empty_is_wrong = size == 0 && Digest::of(b"") != digest;
        let tail = empty_is_wrong.then(|| Err(io::Error::other(wrong_digest(digest, Digest::of(b"")))));
        let chunks = Box::pin(checked.chain(futures_util::stream::iter(tail)));
        Self { digest, size, offset, chunks, pending }
    }
}

/// The error for content that is not what it was asked for.
pub(super) fn wrong_digest(wanted: Digest, found: Digest) -> Error {
    Error::invalid(format!("filesystem layer verification failed for digest {wanted}: the content's digest is {found}"))
        .with_hint("the registry's copy is damaged, or a proxy on the way changed it")
}

impl Stream for Blob {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.pending.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.pending))));
        }
        self.chunks.as_mut().poll_next(cx)
    }
}

impl AsyncRead for Blob {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.pending.is_empty() {
            match std::task::ready!(self.chunks.as_mut().poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(chunk) => self.pending = chunk?,
            }
        }
        let count = self.pending.len().min(buf.remaining());
        buf.put_slice(&self.pending[..count]);
        self.pending.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// An open response and how much of it lies before what is wanted.
struct Open {
    body: Incoming,
    skip: u64,
    _permit: OwnedSemaphorePermit,
}

/// The state behind a [`Blob`].
struct Puller {
    inner: Arc<Inner>,
    reference: Reference,
    descriptor: Descriptor,
    credentials: Credentials,
    /// Servers that sent something else than the blob.
    bad: Vec<String>,
    position: u64,
    open: Option<Open>,
    attempt: u32,
    progress: u64,
}

impl Inner {
    pub(super) async fn blob(
        self: Arc<Self>,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
        credentials: &Credentials,
    ) -> Result<Blob> {
        let size = descriptor.size;
        if offset > size {
            return Err(Error::invalid(format!("offset {offset} lies behind the end of {}", descriptor.digest)));
        }
        let mut puller = Puller {
            inner: self,
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            credentials: credentials.clone(),
            bad: Vec::new(),
            position: offset,
            open: None,
            attempt: 0,
            progress: 0,
        };
        if offset < size {
            puller.open = Some(puller.reopen().await?);
        }
        let chunks = futures_util::stream::unfold(Some(puller), |state| async move {
            let mut puller = state?;
            match puller.next().await {
                Ok(None) => None,
                Ok(Some(chunk)) => Some((Ok(chunk), Some(puller))),
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        });
        Ok(Blob { digest: descriptor.digest, size, offset, chunks: Box::pin(chunks), pending: Bytes::new() })
    }

    pub(super) async fn blob_bytes(
        self: Arc<Self>,
        reference: &Reference,
        descriptor: &Descriptor,
        bytes_max: u64,
        credentials: &Credentials,
    ) -> Result<Bytes> {
        let Descriptor { digest, size, .. } = *descriptor;
        if size > bytes_max {
            return Err(Error::invalid(format!("{digest} has {size} bytes; at most {bytes_max} are read")));
        }
        let mut blob = self.blob(reference, descriptor, 0, credentials).await?.verified();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = blob.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}

impl Inner {
    pub(super) async fn blob_size(
        &self,
        reference: &Reference,
        digest: Digest,
        credentials: &Credentials,
    ) -> Result<u64> {
        let ask = Ask::new(Method::HEAD, vec![pull_scope(reference.path())]);
        let mut tour = Tour::new(self.directory.for_pull(reference, credentials)?);
        while let Some(endpoint) = tour.next() {
            let url = endpoint.url(&format!("{}/blobs/{digest}", reference.path())).map_err(Failure::into_error)?;
            let answer = self.send(&endpoint, &ask, &url, self.retries(&tour)).await;
            let size = answer.and_then(|answer| {
                answer
                    .content_length()
                    .ok_or_else(|| Failure::bad(format!("blob {digest}: the registry tells no size")))
            });
            match size {
                Ok(size) => return Ok(size),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(|failure| blob_error(failure, reference, digest)))
    }
}

fn blob_error(failure: &Failure, reference: &Reference, digest: Digest) -> Error {
    if failure.is_missing() {
        let name = reference.familiar_name();
        return Error::new(ErrorKind::NotFound, format!("blob {digest} of {name} not found: {}", failure.brief()));
    }
    failure.pull_error(reference)
}

/// The error inside an I/O error of a [`Blob`].
fn own_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(other) => Error::from(other),
    }
}

impl Puller {
    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.descriptor.size {
            let failure = match &mut self.open {
                None => {
                    self.open = Some(self.reopen().await?);
                    continue;
                }
                Some(open) => match tokio::time::timeout(self.inner.config.idle_timeout, open.body.frame()).await {
                    Err(_) => "the registry stopped sending".to_owned(),
                    Ok(None) => {
                        format!("the registry stopped after {} of {} bytes", self.position, self.descriptor.size)
                    }
                    Ok(Some(Err(error))) => root_cause(&error),
                    Ok(Some(Ok(frame))) => {
                        let Ok(data) = frame.into_data() else { continue };
                        match self.accept(data)? {
                            Some(chunk) => return Ok(Some(chunk)),
                            None => continue,
                        }
                    }
                },
            };
            self.recover(failure).await?;
        }
        self.finish().await.map(|()| None)
    }

    /// Takes a piece of the body. `None` when nothing of it is wanted.
    fn accept(&mut self, mut data: Bytes) -> Result<Option<Bytes>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let skipped = usize::try_from(open.skip).unwrap_or(usize::MAX).min(data.len());
        data.advance(skipped);
        open.skip -= skipped as u64;
        if data.is_empty() {
            return Ok(None);
        }
        if data.len() as u64 > self.descriptor.size - self.position {
            return Err(self.oversized());
        }
        self.position += data.len() as u64;
        self.progress += data.len() as u64;
        if self.progress >= FORGIVEN_AFTER {
            self.attempt = 0;
        }
        Ok(Some(data))
    }

    /// All bytes are there; more would mean that the descriptor is wrong.
    async fn finish(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        // A connection that ends badly after the last byte has still delivered the blob.
        let wait = std::time::Duration::from_secs(5).min(self.inner.config.idle_timeout);
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(wait, open.body.frame()).await {
            if frame.data_ref().is_some_and(|data| !data.is_empty()) {
                return Err(self.oversized());
            }
        }
        Ok(())
    }

    fn oversized(&self) -> Error {
        let Descriptor { digest, size, .. } = self.descriptor;
        Error::invalid(format!("blob {digest} is larger than the {size} bytes its manifest says"))
    }

    /// Closes the connection and waits before the next; gives up after too many failures in a row.
    async fn recover(&mut self, why: String) -> Result<()> {
        self.open = None;
        self.progress = 0;
        let request = format!("Get blob {} of {}", self.descriptor.digest, self.reference.familiar_name());
        let failure = Failure::Transport { request, why };
        match self.inner.wait_before_retry(&failure, self.attempt, self.inner.config.retries) {
            None => Err(failure.into_error()),
            Some(wait) => {
                self.attempt += 1;
                tokio::time::sleep(wait).await;
                Ok(())
            }
        }
    }

    /// Opens the blob at the current position at the first server that has it.
    async fn reopen(&mut self) -> Result<Open> {
        let mut places = self.inner.directory.for_pull(&self.reference, &self.credentials)?;
        let foreign = self.descriptor.urls.iter().filter_map(|url| Endpoint::foreign(url));
        if media::is_foreign_layer(&self.descriptor.media_type) {
            places.splice(0..0, foreign);
        } else {
            places.extend(foreign);
        }
        places.retain(|place| !self.bad.contains(&place.origin()));
        let mut tour = Tour::new(places);
        while let Some(endpoint) = tour.next() {
            let retries = self.inner.retries(&tour);
            match self.open_at(&endpoint, retries).await {
                Ok(open) => return Ok(open),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(|failure| blob_error(failure, &self.reference, self.descriptor.digest)))
    }

    async fn open_at(&mut self, endpoint: &Endpoint, retries: u32) -> Result<Open, Failure> {
        let url = endpoint.url(&format!("{}/blobs/{}", self.reference.path(), self.descriptor.digest))?;
        let mut ask = Ask::new(Method::GET, vec![pull_scope(self.reference.path())]);
        if self.position > 0 {
            ask = ask.header(RANGE, format!("bytes={}-", self.position));
        }
        let answer = self.inner.send(endpoint, &ask, &url, retries).await?;
        let start = self.start_of(&answer).inspect_err(|_| self.bad.push(endpoint.origin()))?;
        let (body, permit) = answer.into_body();
        Ok(Open { body, skip: self.position - start, _permit: permit })
    }

    /// Checks status and length before a byte is read; returns where in the blob the body starts.
    fn start_of(&self, answer: &Answer) -> Result<u64, Failure> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let start = match answer.status() {
            StatusCode::PARTIAL_CONTENT => answer
                .header(CONTENT_RANGE)
                .and_then(wire::content_range)
                .map(|(start, _)| start)
                .filter(|start| *start <= self.position)
                .ok_or_else(|| {
                    Failure::bad(format!("blob {digest}: the registry sent another range than asked for"))
                })?,
            // Without support for ranges the blob comes from its beginning.
            _ => 0,
        };
        match answer.content_length() {
            Some(length) if start + length != size => {
                let found = start + length;
                let message = format!("blob {digest} has {found} bytes where its manifest says {size}");
                Err(Failure::Final(Error::invalid(message)))
            }
            _ => Ok(start),
        }
    }
}
