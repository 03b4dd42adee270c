//! Pushing: look, mount, upload (distribution-spec 1.1, "Push"), resuming where the registry allows it.

use std::time::Duration;

use barque_model::{Digest, Error, ErrorKind, Reference, Result};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio_util::io::ReaderStream;
use url::Url;

use super::endpoint::{Endpoint, Tour, origin};
use super::failure::{Failure, request_text};
use super::request::{Answer, Ask, SendBody};
use super::resolve::content_digest;
use super::{Inner, PushBlob, Pushed, pull_scope};
use crate::{Credentials, Descriptor, Index, RawManifest, media, wire};

/// Read from a source and handed to the connection at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Blobs up to this size are sent in one `PUT`.
const MONOLITHIC_BYTES_MAX: u64 = 1024 * 1024;
/// How often an upload's progress is told.
const TICK: Duration = Duration::from_millis(100);
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

fn push_scope(path: &str) -> String {
    format!("repository:{path}:pull,push")
}

fn found(status: StatusCode) -> bool {
    status.is_success()
}

impl Inner {
    /// The registry itself, at the scheme it answers; `probe` is the first request, whose failure counts.
    async fn probe(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        ask: &Ask,
        path: &str,
    ) -> Result<(Endpoint, Result<Answer, Failure>)> {
        let mut tour = Tour::new(self.directory.for_registry(reference.domain(), credentials)?);
        while let Some(endpoint) = tour.next() {
            let url = endpoint.url(path).map_err(Failure::into_error)?;
            match self.send(&endpoint, ask, &url, self.config.retries).await {
                Err(failure @ Failure::Connect { .. }) => tour.failed(endpoint, failure),
                other => return Ok((endpoint, other)),
            }
        }
        Err(tour.into_error(Failure::as_error))
    }

    pub(super) async fn blob_exists(
        &self,
        reference: &Reference,
        digest: Digest,
        credentials: &Credentials,
    ) -> Result<bool> {
        let ask = Ask::new(Method::HEAD, vec![pull_scope(reference.path())]);
        let path = format!("{}/blobs/{digest}", reference.path());
        match self.probe(reference, credentials, &ask, &path).await?.1 {
            Ok(answer) => Ok(found(answer.status())),
            Err(failure) if failure.is_missing() => Ok(false),
            Err(failure) => Err(failure.into_error()),
        }
    }

    pub(super) async fn push_blob(&self, blob: &PushBlob<'_>, credentials: &Credentials) -> Result<Pushed> {
        let path = blob.reference.path();
        let digest = blob.descriptor.digest;
        let ask = Ask::new(Method::HEAD, vec![push_scope(path)]);
        let (endpoint, answer) =
            self.probe(blob.reference, credentials, &ask, &format!("{path}/blobs/{digest}")).await?;
        match answer {
            Ok(_) => return Ok(Pushed::Exists),
            Err(failure) if failure.is_missing() => {}
            Err(failure) => return Err(failure.into_error()),
        }
        let mut upload = Upload { inner: self, endpoint, blob, session: None };
        for from in blob.mount_from.iter().filter(|from| *from != path) {
            if upload.mount(from).await? {
                if let Some(session) = upload.session.take() {
                    upload.cancel(&session).await;
                }
                return Ok(Pushed::Mounted { from: from.clone() });
            }
        }
        upload.run().await?;
        Ok(Pushed::Uploaded)
    }

    pub(super) async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &RawManifest,
        credentials: &Credentials,
    ) -> Result<Digest> {
        let name = match reference.tag() {
            Some(tag) => tag.to_owned(),
            None => manifest.digest.to_string(),
        };
        let (endpoint, stored_subject) = self.put_document(reference, &name, manifest, credentials).await?;
        if let Some(subject) = subject_of(&manifest.bytes)
            && !stored_subject
        {
            // The registry does not know referrers: keep the list under a tag (distribution-spec 1.1, "Referrers Tag Schema").
            self.add_referrer_tag(&endpoint, reference, subject, manifest, credentials).await?;
        }
        Ok(manifest.digest)
    }

    async fn put_document(
        &self,
        reference: &Reference,
        name: &str,
        manifest: &RawManifest,
        credentials: &Credentials,
    ) -> Result<(Endpoint, bool)> {
        let path = reference.path();
        let ask = Ask::new(Method::PUT, vec![push_scope(path)])
            .header(CONTENT_TYPE, &manifest.media_type)
            .body(manifest.bytes.clone());
        let (endpoint, answer) = self.probe(reference, credentials, &ask, &format!("{path}/manifests/{name}")).await?;
        let answer = answer.map_err(Failure::into_error)?;
        if let Some(other) = content_digest(&answer).filter(|digest| *digest != manifest.digest) {
            return Err(Error::unavailable(format!(
                "the registry stored the manifest {} of {} as {other}",
                manifest.digest,
                reference.familiar()
            )));
        }
        Ok((endpoint, answer.header(OCI_SUBJECT).is_some()))
    }

    async fn add_referrer_tag(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        subject: Digest,
        manifest: &RawManifest,
        credentials: &Credentials,
    ) -> Result<()> {
        let tag = super::list::referrers_tag(subject);
        let tagged = reference.with_tag(&tag)?;
        let mut index = self.referrers_by_tag(endpoint, &tagged).await?.unwrap_or_else(Index::empty);
        if index.manifests.iter().any(|entry| entry.digest == manifest.digest) {
            return Ok(());
        }
        index.manifests.push(referrer_descriptor(manifest));
        let bytes = serde_json::to_vec(&index).map_err(|error| Error::internal(error.to_string()))?;
        let document = RawManifest::new(media::OCI_INDEX, bytes);
        self.put_document(reference, &tag, &document, credentials).await.map(|_| ())
    }
}

/// The digest in a manifest's `subject`.
fn subject_of(bytes: &[u8]) -> Option<Digest> {
    #[derive(serde::Deserialize)]
    struct Subject {
        subject: Option<Descriptor>,
    }
    serde_json::from_slice::<Subject>(bytes).ok()?.subject.map(|subject| subject.digest)
}

/// How a manifest is listed among the referrers of its subject (distribution-spec 1.1, "Listing Referrers").
pub(crate) fn referrer_descriptor(manifest: &RawManifest) -> Descriptor {
    let mut descriptor = manifest.descriptor();
    match manifest.parse() {
        Ok(crate::Document::Image(image)) => {
            descriptor.artifact_type = Some(image.artifact_type.unwrap_or(image.config.media_type));
            descriptor.annotations = image.annotations;
        }
        Ok(crate::Document::Index(index)) => {
            descriptor.artifact_type = index.artifact_type;
            descriptor.annotations = index.annotations;
        }
        Err(_) => {}
    }
    descriptor
}

/// One blob on its way.
struct Upload<'a> {
    inner: &'a Inner,
    endpoint: Endpoint,
    blob: &'a PushBlob<'a>,
    /// Where the registry wants the bytes.
    session: Option<Url>,
}

impl Upload<'_> {
    fn path(&self) -> &str {
        self.blob.reference.path()
    }

    fn scopes(&self) -> Vec<String> {
        vec![push_scope(self.path())]
    }

    /// Asks the registry to link the blob from another repository; a refusal is no error, the upload follows.
    async fn mount(&mut self, from: &str) -> Result<bool> {
        let mut scopes = self.scopes();
        scopes.push(pull_scope(from));
        let mut url = self.uploads_url().map_err(Failure::into_error)?;
        let digest = self.blob.descriptor.digest.to_string();
        url.query_pairs_mut().append_pair("mount", &digest).append_pair("from", from);
        let ask = Ask::new(Method::POST, scopes);
        match self.inner.send(&self.endpoint, &ask, &url, self.inner.config.retries.min(1)).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => Ok(true),
            Ok(answer) => {
                // Not mounted, but an upload is open already.
                let fresh = self.location(&answer).ok();
                if let Some(old) = std::mem::replace(&mut self.session, fresh) {
                    self.cancel(&old).await;
                }
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    fn uploads_url(&self) -> Result<Url, Failure> {
        self.endpoint.url(&format!("{}/blobs/uploads/", self.path()))
    }

    /// Gives an upload up; best effort, the registry drops it after a while anyway.
    async fn cancel(&self, session: &Url) {
        let ask = Ask::new(Method::DELETE, self.scopes());
        let _ = self.inner.send(&self.endpoint, &ask, session, 0).await;
    }

    async fn run(&mut self) -> Result<()> {
        let mut offset = 0;
        let mut attempt = 0;
        loop {
            let failure = match self.step(offset).await {
                Ok(()) => {
                    self.report(self.blob.descriptor.size);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let wait = match self.inner.wait_before_retry(&failure, attempt, self.inner.config.retries) {
                Some(wait) => wait,
                None if attempt < self.inner.config.retries && may_resume(&failure) => self.inner.config.backoff,
                None => {
                    if let Some(session) = self.session.take() {
                        self.cancel(&session).await;
                    }
                    return Err(failure.into_error());
                }
            };
            attempt += 1;
            tokio::time::sleep(wait).await;
            offset = self.received().await;
            self.report(offset);
        }
    }

    fn report(&self, bytes: u64) {
        if let Some(progress) = self.blob.progress {
            progress(bytes);
        }
    }

    /// How much the registry has; also renews a token that ran out. Forgets a session the registry does not know.
    async fn received(&mut self) -> u64 {
        let Some(session) = self.session.clone() else { return 0 };
        let ask = Ask::new(Method::GET, self.scopes());
        let answer = self.inner.send(&self.endpoint, &ask, &session, 2).await;
        let state = answer.ok().and_then(|answer| {
            let received = answer.header(RANGE).and_then(wire::upload_range).unwrap_or(0);
            Some((received, self.location(&answer).ok()?))
        });
        match state {
            Some((received, session)) if received <= self.blob.descriptor.size => {
                self.session = Some(session);
                received
            }
            _ => {
                self.session = None;
                0
            }
        }
    }

    /// Sends everything from `offset` on and closes the upload.
    async fn step(&mut self, offset: u64) -> Result<(), Failure> {
        let size = self.blob.descriptor.size;
        let session = match self.session.clone() {
            Some(session) => session,
            None => {
                let ask = Ask::new(Method::POST, self.scopes());
                let answer =
                    self.inner.send(&self.endpoint, &ask, &self.uploads_url()?, self.inner.config.retries).await?;
                self.session.insert(self.location(&answer)?).clone()
            }
        };
        if offset == 0 && size <= MONOLITHIC_BYTES_MAX {
            return self.send_bytes(Method::PUT, &self.closing(&session), 0).await.map(|_| ());
        }
        let session = if offset < size {
            let answer = self.send_bytes(Method::PATCH, &session, offset).await?;
            self.session.insert(self.location(&answer)?).clone()
        } else {
            session
        };
        let ask =
            Ask::new(Method::PUT, self.scopes()).header(CONTENT_TYPE, "application/octet-stream").body(Bytes::new());
        self.inner.send(&self.endpoint, &ask, &self.closing(&session), 0).await.map(|_| ())
    }

    /// The session's URL with the digest that closes it.
    fn closing(&self, session: &Url) -> Url {
        let mut url = session.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.descriptor.digest.to_string());
        url
    }

    async fn send_bytes(&self, method: Method, url: &Url, offset: u64) -> Result<Answer, Failure> {
        let size = self.blob.descriptor.size;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if method == Method::PATCH && offset > 0 {
            let range = format!("{offset}-{}", size - 1);
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).map_err(|e| Failure::bad(e.to_string()))?);
        }
        if origin(url) == self.endpoint.origin() {
            let way = self.inner.auth.way(&self.endpoint);
            let value = self.inner.authorization(&self.endpoint, way.as_ref(), &self.scopes(), None, None).await?;
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, super::auth::secret_header(&value)?);
            }
        }
        let local = |error: std::io::Error| {
            Failure::Final(Error::from(error).context(format!("read blob {}", self.blob.descriptor.digest)))
        };
        let source = self.blob.source.open(offset).await.map_err(local)?;
        let body = SendBody::stream(size - offset, ReaderStream::with_capacity(source, CHUNK_BYTES));
        let sent = body.progress();
        let exchange = self.inner.exchange(&method, url, headers, body);
        tokio::pin!(exchange);
        let mut tick = tokio::time::interval(TICK);
        let answer = loop {
            tokio::select! {
                answer = &mut exchange => break answer?,
                _ = tick.tick() => self.report(offset + sent.sent()),
            }
        };
        match answer.status() {
            status if status.is_success() => Ok(answer),
            _ => Err(answer.into_refusal(&method).await),
        }
    }

    /// The `Location` of an answer about this upload.
    fn location(&self, answer: &Answer) -> Result<Url, Failure> {
        let text = request_text(&Method::POST, &answer.url);
        let location =
            answer.header(LOCATION).ok_or_else(|| Failure::bad(format!("{text}: no Location in the answer")))?;
        let mut url =
            answer.url.join(location).map_err(|error| Failure::bad(format!("{text}: bad Location: {error}")))?;
        // Registries behind a TLS proxy often believe that they are spoken to in the clear.
        if url.scheme() == "http" && self.endpoint.base.scheme() == "https" && url.host() == self.endpoint.base.host() {
            let port = if url.port() == Some(80) { None } else { url.port().or(self.endpoint.base.port()) };
            // Both setters succeed: http and https are schemes of the same kind and the URL has a host.
            let _ = url.set_scheme("https");
            let _ = url.set_port(port);
        }
        if !matches!(url.scheme(), "http" | "https")
            || (self.endpoint.base.scheme() == "https" && !self.inner.directory.private(&url))
        {
            return Err(Failure::Final(Error::new(
                ErrorKind::Unavailable,
                format!("{text}: refusing to upload to {}", origin(&url)),
            )));
        }
        Ok(url)
    }
}

/// Whether asking the registry how much it has may mend this.
fn may_resume(failure: &Failure) -> bool {
    failure.refusal().is_some_and(|refusal| matches!(refusal.status.as_u16(), 401 | 404 | 416))
}
