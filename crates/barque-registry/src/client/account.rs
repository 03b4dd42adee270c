//! Logging in, and searching the index.

use barque_model::{Error, ErrorKind, Result};
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION};
use serde::Deserialize;
use url::Url;

use super::auth::{Way, secret_header};
use super::endpoint::{Endpoint, Tour};
use super::failure::Failure;
use super::request::{Ask, body_bytes};
use super::{Inner, Login, SearchResult};
use crate::Credentials;

const SEARCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What the index API takes (`n`).
const SEARCH_LIMIT_MAX: u32 = 100;

/// The registry a user means by the argument of `login`: a host, a URL, or nothing for Docker Hub.
fn registry_host(text: &str) -> String {
    let bare = text.trim().trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

impl Inner {
    pub(super) async fn login(&self, registry: &str, credentials: &Credentials) -> Result<Login> {
        let host = registry_host(registry);
        let mut tour = Tour::new(self.directory.for_registry(&host, credentials)?);
        while let Some(endpoint) = tour.next() {
            match self.login_at(&endpoint).await {
                Ok(identity_token) => return Ok(Login { status: "Login Succeeded".to_owned(), identity_token }),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(Failure::as_error))
    }

    async fn login_at(&self, endpoint: &Endpoint) -> Result<String, Failure> {
        let url = endpoint.url("")?;
        // Asked without credentials first: the answer says which way the server wants them.
        let ask = Ask::new(Method::GET, Vec::new());
        let answer = self.exchange(&ask.method, &url, http::HeaderMap::new(), None::<String>.into()).await?;
        self.directory.answered(endpoint);
        let status = answer.status();
        if status.is_success() {
            return Ok(String::new());
        }
        let way = answer.way(&endpoint.base);
        let failure = answer.into_refusal(&ask.method).await;
        let Some(way) = way.filter(|_| status.as_u16() == 401) else {
            return Err(failure);
        };
        self.auth.learn(endpoint, &way);
        let mut identity = String::new();
        let mut headers = http::HeaderMap::new();
        let value = match &way {
            Way::Basic => self.authorization(endpoint, Some(&way), &[], None, None).await?,
            Way::Bearer { realm, service } => {
                let token = self.fetch_token(endpoint, realm, service.as_deref(), &[], true).await;
                let token = token.map_err(|failure| failure.blame_token_server(&ask.method, &url))?;
                identity = token.refresh.clone().unwrap_or_default();
                Some(token.header())
            }
        };
        let Some(value) = value else { return Err(failure) };
        headers.insert(AUTHORIZATION, secret_header(&value)?);
        let answer = self.exchange(&ask.method, &url, headers, None::<String>.into()).await?;
        match answer.status() {
            status if status.is_success() => Ok(identity),
            status if status.as_u16() == 401 && way == Way::Basic => Err(Failure::Final(
                Error::new(
                    ErrorKind::Unauthorized,
                    format!("login attempt to {url} failed with status: 401 Unauthorized"),
                )
                .with_hint("check the user name and password"),
            )),
            _ => Err(answer.into_refusal(&ask.method).await),
        }
    }

    pub(super) async fn search(&self, term: &str, limit: u32, credentials: &Credentials) -> Result<Vec<SearchResult>> {
        if !(1..=SEARCH_LIMIT_MAX).contains(&limit) {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {SEARCH_LIMIT_MAX}]")));
        }
        let (bases, words) = self.index_of(term, credentials)?;
        let mut tour = Tour::new(bases);
        while let Some(endpoint) = tour.next() {
            match self.search_at(&endpoint, &words, limit).await {
                Ok(found) => return Ok(found),
                Err(failure) => tour.failed(endpoint, failure),
            }
        }
        Err(tour.into_error(Failure::as_error))
    }

    /// `HOST/words` asks that host's index, anything else the configured one.
    fn index_of(&self, term: &str, credentials: &Credentials) -> Result<(Vec<Endpoint>, String)> {
        if term.contains("://") {
            return Err(Error::invalid(format!("invalid repository name ({term}): leave the scheme out")));
        }
        if let Some((host, words)) = term.split_once('/')
            && (host.contains(['.', ':']) || host == "localhost")
            && registry_host(host) != "docker.io"
        {
            return Ok((self.directory.for_registry(host, credentials)?, words.to_owned()));
        }
        let words = term.strip_prefix("docker.io/").or(term.strip_prefix("index.docker.io/")).unwrap_or(term);
        let words = words.strip_prefix("library/").unwrap_or(words);
        let base = super::config::mirror_url(&self.config.index_url)?;
        Ok((vec![Endpoint::index(base, credentials.clone())], words.to_owned()))
    }

    async fn search_at(&self, endpoint: &Endpoint, words: &str, limit: u32) -> Result<Vec<SearchResult>, Failure> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            results: Vec<SearchResult>,
        }
        let mut url: Url = endpoint.base.join("v1/search").map_err(|error| Failure::bad(error.to_string()))?;
        url.query_pairs_mut().append_pair("q", words).append_pair("n", &limit.to_string());
        let ask = Ask::new(Method::GET, Vec::new()).header(ACCEPT, "application/json");
        let answer = self.send(endpoint, &ask, &url, self.config.retries.min(2)).await?;
        let bytes = body_bytes(answer, SEARCH_BYTES_MAX, self.config.idle_timeout).await?;
        let page: Page = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::bad(format!("{}: malformed search result: {error}", endpoint.origin())))?;
        let clean = page.results.into_iter().take(limit as usize).map(|hit| SearchResult {
            name: crate::wire::printable(&hit.name),
            description: crate::wire::printable(&hit.description),
            ..hit
        });
        Ok(clean.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_login() {
        for (text, host) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://r.example/v2/", "r.example"),
        ] {
            assert_eq!(registry_host(text), host);
        }
    }
}
