//! Tags, repositories, referrers, deletion.

use barque_model::{Digest, Error, Reference, Result};
use http::Method;
use http::header::{ACCEPT, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::endpoint::{Endpoint, Tour};
use super::failure::Failure;
use super::request::{Ask, body_bytes};
use super::resolve::target;
use super::{Inner, pull_scope};
use crate::{Credentials, Descriptor, Document, Index, media, wire};

/// Entries asked for at a time.
const PAGE: usize = 1000;
/// One page of a list is read up to this size, in bytes.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A list that is longer than this many pages is endless.
const PAGES_MAX: usize = 1000;

/// The tag under which registries without the referrers API keep a digest's referrers.
pub(super) fn referrers_tag(digest: Digest) -> String {
    digest.to_string().replace(':', "-")
}

impl Index {
    /// An OCI index that lists nothing.
    pub(crate) fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: media::OCI_INDEX.to_owned(),
            artifact_type: None,
            manifests: Vec::new(),
            subject: None,
            annotations: Default::default(),
        }
    }
}

impl Inner {
    pub(super) async fn tags(&self, reference: &Reference, credentials: &Credentials) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let ask = Ask::new(Method::GET, vec![pull_scope(reference.path())]);
        let path = format!("{}/tags/list?n={PAGE}", reference.path());
        let mut tour = Tour::new(self.directory.for_pull(reference, credentials)?);
        while let Some(endpoint) = tour.next() {
            match self.pages::<Page>(&endpoint, &ask, &path, self.retries(&tour)).await {
                Ok(pages) => return Ok(pages.into_iter().flat_map(|page| page.tags.unwrap_or_default()).collect()),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(|failure| failure.pull_error(&reference.repository())))
    }

    pub(super) async fn catalog(&self, registry: &str, credentials: &Credentials) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            repositories: Option<Vec<String>>,
        }
        let ask = Ask::new(Method::GET, vec!["registry:catalog:*".to_owned()]);
        let mut tour = Tour::new(self.directory.for_registry(registry, credentials)?);
        while let Some(endpoint) = tour.next() {
            let pages = self.pages::<Page>(&endpoint, &ask, &format!("_catalog?n={PAGE}"), self.config.retries).await;
            match pages {
                Ok(pages) => {
                    return Ok(pages.into_iter().flat_map(|page| page.repositories.unwrap_or_default()).collect());
                }
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(Failure::as_error))
    }

    /// Follows `Link: …; rel="next"` to the end.
    async fn pages<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
        path: &str,
        retries: u32,
    ) -> Result<Vec<T>, Failure> {
        let mut url = endpoint.url(path)?;
        let mut pages = Vec::new();
        while pages.len() < PAGES_MAX {
            let answer = self.send(endpoint, ask, &url, retries).await?;
            let next = answer.header(LINK).and_then(wire::next_link);
            let from = answer.url.clone();
            let bytes = body_bytes(answer, PAGE_BYTES_MAX, self.config.idle_timeout).await?;
            let malformed = |error: serde_json::Error| Failure::bad(format!("{url}: malformed answer: {error}"));
            pages.push(serde_json::from_slice(&bytes).map_err(malformed)?);
            match next {
                None => return Ok(pages),
                Some(next) => url = next_page(&from, &next)?,
            }
        }
        Err(Failure::bad(format!("{}: the list does not end", endpoint.origin())))
    }

    pub(super) async fn delete(&self, reference: &Reference, path: &str, credentials: &Credentials) -> Result<()> {
        let ask = Ask::new(Method::DELETE, vec![format!("repository:{}:pull,push,delete", reference.path())]);
        let mut tour = Tour::new(self.directory.for_registry(reference.domain(), credentials)?);
        while let Some(endpoint) = tour.next() {
            let url = endpoint.url(path).map_err(Failure::into_error)?;
            match self.send(&endpoint, &ask, &url, self.config.retries).await {
                Ok(_) => return Ok(()),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(Failure::as_error))
    }

    pub(super) async fn delete_manifest(&self, reference: &Reference, credentials: &Credentials) -> Result<()> {
        let path = format!("{}/manifests/{}", reference.path(), target(reference)?);
        self.delete(reference, &path, credentials).await
    }

    pub(super) async fn referrers(
        &self,
        reference: &Reference,
        digest: Digest,
        artifact_type: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Index> {
        let ask = Ask::new(Method::GET, vec![pull_scope(reference.path())]).header(ACCEPT, media::OCI_INDEX);
        let mut path = format!("{}/referrers/{digest}", reference.path());
        if let Some(wanted) = artifact_type {
            let query =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("artifactType", wanted).finish();
            path = format!("{path}?{query}");
        }
        let mut tour = Tour::new(self.directory.for_registry(reference.domain(), credentials)?);
        while let Some(endpoint) = tour.next() {
            let found = match self.pages::<Index>(&endpoint, &ask, &path, self.config.retries).await {
                Ok(pages) => pages.into_iter().flat_map(|page| page.manifests).collect(),
                Err(failure) if failure.is_missing() => {
                    let tagged = reference.with_tag(&referrers_tag(digest))?;
                    self.referrers_by_tag(&endpoint, &tagged).await?.unwrap_or_else(Index::empty).manifests
                }
                Err(failure) => {
                    tour.failed(endpoint, failure);
                    continue;
                }
            };
            return Ok(Index { manifests: of_type(found, artifact_type), ..Index::empty() });
        }
        Err(tour.into_error(Failure::as_error))
    }

    /// The index under the fallback tag, when there is one.
    pub(super) async fn referrers_by_tag(&self, endpoint: &Endpoint, tagged: &Reference) -> Result<Option<Index>> {
        match self.manifest_from(endpoint, tagged, self.config.retries).await {
            Ok((_, Document::Index(index))) => Ok(Some(index)),
            Ok((_, Document::Image(_))) => Ok(None),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure.into_error()),
        }
    }
}

/// Registries may ignore the filter.
fn of_type(mut found: Vec<Descriptor>, artifact_type: Option<&str>) -> Vec<Descriptor> {
    found.retain(|entry| artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted)));
    found
}

/// The next page must come from the same server: it is asked with the same credentials.
fn next_page(from: &Url, link: &str) -> Result<Url, Failure> {
    let next = from.join(link).ok().filter(|next| next.host() == from.host() && next != from);
    let mut next =
        next.ok_or_else(|| Failure::Final(Error::unavailable(format!("bad link to the next page: {link}"))))?;
    // Behind a TLS proxy registries may believe that they are spoken to in the clear.
    let _ = next.set_scheme(from.scheme());
    let _ = next.set_port(from.port());
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages_stay_on_the_server() {
        let from = Url::parse("https://r.example:5000/v2/_catalog?n=1").unwrap();
        let next = |link: &str| next_page(&from, link).map(|url| url.to_string()).map_err(|f| f.brief());
        assert_eq!(next("/v2/_catalog?last=a&n=1").unwrap(), "https://r.example:5000/v2/_catalog?last=a&n=1");
        assert_eq!(next("http://r.example/v2/_catalog?last=a").unwrap(), "https://r.example:5000/v2/_catalog?last=a");
        assert!(next("https://evil.example/v2/").is_err());
        assert!(next("https://r.example:5000/v2/_catalog?n=1").is_err(), "a page that links to itself never ends");
    }

    #[test]
    fn the_fallback_tag() {
        let digest = Digest::of(b"");
        assert_eq!(referrers_tag(digest), format!("sha256-{}", digest.hex()));
    }
}
