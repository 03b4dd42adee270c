//! From a reference to the manifest of one platform.

use barque_model::{Digest, Error, ErrorKind, Platform, Reference, Result};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};

use super::endpoint::{Endpoint, Tour};
use super::failure::Failure;
use super::request::{Answer, Ask, body_bytes};
use super::{Inner, Resolved, pull_scope};
use crate::manifest::MANIFEST_BYTES_MAX;
use crate::{Credentials, Descriptor, Document, RawManifest, media};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The part of a manifest's URL that names it.
pub(super) fn target(reference: &Reference) -> Result<String> {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Ok(digest.to_string()),
        (None, Some(tag)) => Ok(tag.to_owned()),
        (None, None) => Err(Error::invalid(format!("{} names neither a tag nor a digest", reference.familiar()))),
    }
}

/// The `Docker-Content-Digest` header, when it holds a digest that can be checked.
pub(super) fn content_digest(answer: &Answer) -> Option<Digest> {
    answer.header(CONTENT_DIGEST)?.parse().ok()
}

impl Inner {
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        credentials: &Credentials,
    ) -> Result<Resolved> {
        let (top, document) = self.manifest(reference, credentials).await?;
        let index = match document {
            Document::Image(image) => {
                return Ok(Resolved { digest: top.digest, index: None, manifest: top, image, platform: None });
            }
            Document::Index(index) => index,
        };
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        let Some(chosen) = index.select(wanted) else {
            return Err(no_match(wanted, &index.platforms()));
        };
        let (manifest, document) = self.manifest(&reference.with_digest(chosen.digest), credentials).await?;
        if manifest.bytes.len() as u64 != chosen.size {
            return Err(Error::unavailable(format!(
                "manifest {} has {} bytes where the index says {}",
                chosen.digest,
                manifest.bytes.len(),
                chosen.size
            )));
        }
        match document {
            Document::Image(image) => {
                let platform = chosen.platform.clone();
                Ok(Resolved { digest: top.digest, index: Some(top), manifest, image, platform })
            }
            Document::Index(_) => Err(Error::invalid(format!(
                "malformed index {}: its entry {} is another index",
                top.digest, chosen.digest
            ))),
        }
    }

    pub(super) async fn manifest(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<(RawManifest, Document)> {
        target(reference)?;
        let mut tour = Tour::new(self.directory.for_pull(reference, credentials)?);
        while let Some(endpoint) = tour.next() {
            let retries = self.retries(&tour);
            match self.manifest_from(&endpoint, reference, retries).await {
                Ok(found) => {
                    self.directory.prefer(reference, &endpoint);
                    return Ok(found);
                }
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(|failure| failure.pull_error(reference)))
    }

    pub(super) async fn manifest_from(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        retries: u32,
    ) -> Result<(RawManifest, Document), Failure> {
        let url = endpoint.url(&manifest_path(reference)?)?;
        let answer = self.send(endpoint, &manifest_ask(Method::GET, reference), &url, retries).await?;
        let promised = content_digest(&answer);
        let content_type = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
        let bytes = body_bytes(answer, MANIFEST_BYTES_MAX, self.config.idle_timeout).await?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = reference.digest().or(promised).filter(|wanted| *wanted != digest) {
            return Err(Failure::bad(format!(
                "manifest verification failed for digest {wanted}: the content's digest is {digest}"
            )));
        }
        let (media_type, document) = crate::manifest::parse(&bytes, &content_type).map_err(Failure::Final)?;
        Ok((RawManifest { media_type, digest, bytes }, document))
    }

    pub(super) async fn head(&self, reference: &Reference, credentials: &Credentials) -> Result<Descriptor> {
        target(reference)?;
        let mut tour = Tour::new(self.directory.for_pull(reference, credentials)?);
        while let Some(endpoint) = tour.next() {
            let retries = self.retries(&tour);
            match self.head_from(&endpoint, reference, retries).await {
                Ok(descriptor) => return Ok(descriptor),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(|failure| failure.pull_error(reference)))
    }

    async fn head_from(&self, endpoint: &Endpoint, reference: &Reference, retries: u32) -> Result<Descriptor, Failure> {
        let url = endpoint.url(&manifest_path(reference)?)?;
        let answer = self.send(endpoint, &manifest_ask(Method::HEAD, reference), &url, retries).await;
        if let Ok(answer) = &answer
            && let (Some(digest), Some(size)) = (content_digest(answer), answer.content_length())
            && let Some(media_type) = answer.header(CONTENT_TYPE)
        {
            return Ok(Descriptor::new(media::essence(media_type), digest, size));
        }
        match answer {
            Err(failure) if failure.refusal().is_none_or(|refusal| refusal.status.as_u16() != 405) => Err(failure),
            // The registry does not do HEAD, or leaves the digest out.
            _ => Ok(self.manifest_from(endpoint, reference, retries).await?.0.descriptor()),
        }
    }

    /// How patient to be with the server just taken from `tour`: less when another can be asked.
    pub(super) fn retries(&self, tour: &Tour) -> u32 {
        if tour.is_last() { self.config.retries } else { self.config.retries.min(1) }
    }
}

fn manifest_path(reference: &Reference) -> Result<String, Failure> {
    let target = target(reference).map_err(Failure::Final)?;
    Ok(format!("{}/manifests/{target}", reference.path()))
}

fn manifest_ask(method: Method, reference: &Reference) -> Ask {
    Ask::new(method, vec![pull_scope(reference.path())]).header(ACCEPT, media::ACCEPT_MANIFESTS.join(", "))
}

fn no_match(wanted: &Platform, offered: &[String]) -> Error {
    let message = format!(
        "no matching manifest for {wanted} in the manifest list entries: no match for platform in manifest: not found"
    );
    let error = Error::new(ErrorKind::NotFound, message);
    match offered {
        [] => error,
        offered => error.with_hint(format!("the image is there for {}", offered.join(", "))),
    }
}
