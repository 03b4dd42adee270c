//! Which servers to ask, in which order, and what was learnt from each.

use std::collections::HashMap;
use std::sync::Mutex;

use barque_model::{Error, ErrorKind, Reference, Result};
use url::Url;

use super::config::{ClientConfig, InsecureHosts, mirror_url};
use super::connect::percent_decode;
use super::failure::Failure;
use crate::Credentials;

const DOCKER_IO: &str = "docker.io";
const DOCKER_IO_HOST: &str = "registry-1.docker.io";
/// Learnt facts kept; a client that has seen more hosts than this starts learning anew.
const FACTS_MAX: usize = 4096;

/// One server that can answer for a repository.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `scheme://host[:port]/[prefix/]`.
    pub(super) base: Url,
    /// Only credentials meant for this server: the caller's for the registry itself, a URL's own for a mirror.
    pub(super) credentials: Credentials,
    pub(super) mirror: bool,
    /// The registry a shared mirror is to answer for (`ns` parameter).
    namespace: Option<String>,
    /// Only asked when the one before could not be connected to (plain HTTP after HTTPS).
    fallback: bool,
    /// The one URL a place outside any registry has.
    direct: Option<Url>,
}

impl Endpoint {
    /// A URL from a descriptor's `urls`: never given credentials.
    pub(super) fn foreign(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let (base, direct) = (url.clone(), Some(url));
        Some(Self { base, credentials: Credentials::Anonymous, mirror: true, namespace: None, fallback: false, direct })
    }

    /// The search index.
    pub(super) fn index(base: Url, credentials: Credentials) -> Self {
        Self { base, credentials, mirror: false, namespace: None, fallback: false, direct: None }
    }

    /// The URL of `/v2/` + `path`, which may carry a query.
    pub(super) fn url(&self, path: &str) -> Result<Url, Failure> {
        if let Some(direct) = &self.direct {
            return Ok(direct.clone());
        }
        let text = format!("{}v2/{path}", self.base);
        let mut url = Url::parse(&text).map_err(|error| Failure::bad(format!("invalid URL {text}: {error}")))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// `scheme://host[:port]`, the key of what is known about the server.
    pub(super) fn origin(&self) -> String {
        origin(&self.base)
    }
}

/// `scheme://host[:port]` of a URL.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `host[:port]` of a URL as configuration files write it: without the scheme's default port.
pub(super) fn authority(url: &Url) -> String {
    match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// Mirrors and what the client has learnt.
pub(super) struct Directory {
    mirrors: HashMap<String, Vec<Endpoint>>,
    pub(super) insecure: InsecureHosts,
    /// Authority → scheme that answered last.
    schemes: Mutex<HashMap<String, String>>,
    /// Repository → origin that had its manifest.
    preferred: Mutex<HashMap<String, String>>,
}

impl Directory {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let insecure = InsecureHosts::parse(&config.insecure)?;
        let mut mirrors = HashMap::new();
        let hub = (DOCKER_IO.to_owned(), &config.mirrors);
        let others = config.registry_mirrors.iter().map(|(name, urls)| (name.to_ascii_lowercase(), urls));
        for (registry, urls) in std::iter::once(hub).chain(others) {
            let parsed: Result<Vec<Endpoint>> = urls.iter().map(|url| mirror(url, &registry, &insecure)).collect();
            mirrors.entry(registry).or_insert_with(Vec::new).extend(parsed?);
        }
        Ok(Self { mirrors, insecure, schemes: Mutex::default(), preferred: Mutex::default() })
    }

    /// The servers to read `reference` from: mirrors first, but the one that had its manifest before all.
    pub(super) fn for_pull(&self, reference: &Reference, credentials: &Credentials) -> Result<Vec<Endpoint>> {
        let mut list = self.mirrors.get(reference.domain()).cloned().unwrap_or_default();
        list.extend(self.for_registry(reference.domain(), credentials)?);
        let preferred = lock(&self.preferred).get(&reference.name()).cloned();
        if let Some(at) = preferred.and_then(|origin| list.iter().position(|endpoint| endpoint.origin() == origin)) {
            let mut first = list.remove(at);
            first.fallback = false;
            list.insert(0, first);
        }
        Ok(list)
    }

    /// The servers to ask a registry itself at: one, or HTTPS and HTTP for insecure hosts.
    pub(super) fn for_registry(&self, registry: &str, credentials: &Credentials) -> Result<Vec<Endpoint>> {
        let host = if registry == DOCKER_IO { DOCKER_IO_HOST } else { registry };
        let mut schemes = vec!["https"];
        if self.insecure.contains(host) {
            schemes.push("http");
            if lock(&self.schemes).get(host).is_some_and(|scheme| scheme == "http") {
                schemes.reverse();
            }
        }
        let endpoints = schemes.iter().enumerate().map(|(at, scheme)| {
            let base = Url::parse(&format!("{scheme}://{host}/"))
                .map_err(|error| Error::invalid(format!("invalid registry '{registry}': {error}")))?;
            let (credentials, fallback) = (credentials.clone(), at > 0);
            Ok(Endpoint { base, credentials, mirror: false, namespace: None, fallback, direct: None })
        });
        endpoints.collect()
    }

    /// Notes that a server answered at all.
    pub(super) fn answered(&self, endpoint: &Endpoint) {
        if !endpoint.mirror {
            let mut schemes = lock(&self.schemes);
            if schemes.len() >= FACTS_MAX {
                schemes.clear();
            }
            schemes.insert(authority(&endpoint.base), endpoint.base.scheme().to_owned());
        }
    }

    /// Notes that a server had a repository's manifest.
    pub(super) fn prefer(&self, reference: &Reference, endpoint: &Endpoint) {
        let mut preferred = lock(&self.preferred);
        if preferred.len() >= FACTS_MAX {
            preferred.clear();
        }
        preferred.insert(reference.name(), endpoint.origin());
    }

    /// Whether secrets may go to this URL.
    pub(super) fn private(&self, url: &Url) -> bool {
        url.scheme() == "https" || self.insecure.contains(&authority(url))
    }
}

fn mirror(text: &str, registry: &str, insecure: &InsecureHosts) -> Result<Endpoint> {
    let mut base = mirror_url(text)?;
    let user = percent_decode(base.username());
    let credentials = match base.password() {
        Some(password) => Credentials::basic(user, percent_decode(password)),
        None => Credentials::Anonymous,
    };
    // Both fail only for URLs that cannot have a host, and this one has.
    let _ = base.set_username("");
    let _ = base.set_password(None);
    if !credentials.is_anonymous() && base.scheme() == "http" && !insecure.contains(&authority(&base)) {
        return Err(Error::invalid(format!("mirror {base} would be sent its password unencrypted"))
            .with_hint("use https, or add the host to the insecure registries"));
    }
    if !base.path().ends_with('/') {
        let path = format!("{}/", base.path());
        base.set_path(&path);
    }
    let namespace = (registry != DOCKER_IO).then(|| registry.to_owned());
    Ok(Endpoint { base, credentials, mirror: true, namespace, fallback: false, direct: None })
}

/// A walk along endpoints that remembers why each did not serve.
pub(super) struct Tour {
    left: std::vec::IntoIter<Endpoint>,
    failed: Vec<(Endpoint, Failure)>,
}

impl Tour {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { left: endpoints.into_iter(), failed: Vec::new() }
    }

    /// The next server worth asking.
    pub(super) fn next(&mut self) -> Option<Endpoint> {
        loop {
            let endpoint = self.left.next()?;
            let unreachable = self.failed.last().is_some_and(|(_, failure)| matches!(failure, Failure::Connect { .. }));
            if !endpoint.fallback || unreachable {
                return Some(endpoint);
            }
        }
    }

    /// Whether another server stands behind this one that is not just its other scheme.
    pub(super) fn is_last(&self) -> bool {
        self.left.as_slice().iter().all(|endpoint| endpoint.fallback)
    }

    pub(super) fn failed(&mut self, endpoint: Endpoint, failure: Failure) {
        self.failed.push((endpoint, failure));
    }

    /// The failure that counts, made an error by `explain`; the others are listed in the hint.
    ///
    /// The registry's own word counts more than a mirror's, and any word more than silence.
    pub(super) fn into_error(self, explain: impl FnOnce(&Failure) -> Error) -> Error {
        let speaks = |failure: &Failure| !matches!(failure, Failure::Connect { .. } | Failure::Transport { .. });
        let rank = |(endpoint, failure): &&(Endpoint, Failure)| match (endpoint.mirror, speaks(failure)) {
            (false, true) => 3,
            (false, false) => 2,
            (true, true) => 1,
            (true, false) => 0,
        };
        let Some((_, decisive)) = self.failed.iter().max_by_key(rank) else {
            return Error::new(ErrorKind::Unavailable, "no registry to ask");
        };
        let error = explain(decisive);
        if self.failed.len() < 2 || self.failed.iter().all(|(endpoint, _)| !endpoint.mirror) {
            return error;
        }
        let tried: Vec<String> = self
            .failed
            .iter()
            .map(|(endpoint, failure)| format!("{} ({})", endpoint.origin(), failure.brief()))
            .collect();
        let tried = format!("tried {}", tried.join(", "));
        let hint = match error.hint() {
            Some(hint) => format!("{hint}; {tried}"),
            None => tried,
        };
        error.with_hint(hint)
    }
}

/// A lock whose holder cannot have left a half-made change behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(mirrors: &[&str], insecure: &[&str]) -> Result<Directory> {
        Directory::new(&ClientConfig {
            mirrors: mirrors.iter().map(ToString::to_string).collect(),
            insecure: insecure.iter().map(ToString::to_string).collect(),
            registry_mirrors: [("quay.example".to_owned(), vec!["https://m.example/q".to_owned()])].into(),
            ..ClientConfig::default()
        })
    }

    fn bases(list: &[Endpoint]) -> Vec<&str> {
        list.iter().map(|endpoint| endpoint.base.as_str()).collect()
    }

    #[test]
    fn docker_hub_has_mirrors_and_its_own_host() {
        let directory = directory(&["https://a.example/x", "http://u:p%40@127.0.0.1:5005"], &[]).unwrap();
        let reference: Reference = "python:3".parse().unwrap();
        let creds = Credentials::basic("me", "secret");
        let list = directory.for_pull(&reference, &creds).unwrap();
        assert_eq!(bases(&list), ["https://a.example/x/", "http://127.0.0.1:5005/", "https://registry-1.docker.io/"]);
        assert_eq!(list[0].credentials, Credentials::Anonymous, "the user's secrets are not for mirrors");
        assert_eq!(list[1].credentials, Credentials::basic("u", "p@"));
        assert_eq!(list[2].credentials, creds);
        assert_eq!(
            list[0].url("library/python/tags/list").unwrap().as_str(),
            "https://a.example/x/v2/library/python/tags/list"
        );

        directory.prefer(&reference, &list[2]);
        assert_eq!(bases(&directory.for_pull(&reference, &creds).unwrap())[0], "https://registry-1.docker.io/");
    }

    #[test]
    fn other_registries_may_have_mirrors_told_the_namespace() {
        let directory = directory(&[], &[]).unwrap();
        let list = directory.for_pull(&"quay.example/a/b".parse().unwrap(), &Credentials::Anonymous).unwrap();
        assert_eq!(list[0].url("a/b/tags/list?n=1").unwrap().query(), Some("n=1&ns=quay.example"));
        assert_eq!(bases(&list)[1], "https://quay.example/");
    }

    #[test]
    fn insecure_hosts_fall_back_to_http_and_remember() {
        let directory = directory(&[], &["reg.example"]).unwrap();
        let list = directory.for_registry("reg.example:5000", &Credentials::Anonymous).unwrap();
        assert_eq!(bases(&list), ["https://reg.example:5000/", "http://reg.example:5000/"]);
        let mut tour = Tour::new(list.clone());
        let first = tour.next().unwrap();
        tour.failed(first, Failure::bad("answered nonsense"));
        assert!(tour.next().is_none(), "a server that answers is not asked again in the clear");

        directory.answered(&list[1]);
        let list = directory.for_registry("reg.example:5000", &Credentials::Anonymous).unwrap();
        assert_eq!(bases(&list), ["http://reg.example:5000/", "https://reg.example:5000/"]);
        let secure = directory.for_registry("other.example", &Credentials::Anonymous).unwrap();
        assert_eq!(bases(&secure), ["https://other.example/"]);
    }

    #[test]
    fn a_mirror_is_not_sent_its_password_in_the_clear() {
        assert!(directory(&["http://u:p@m.example"], &[]).is_err());
        assert!(directory(&["http://u:p@m.example"], &["m.example"]).is_ok());
    }

    #[test]
    fn the_registry_counts_more_than_its_mirror() {
        let directory = directory(&["https://m.example"], &[]).unwrap();
        let list = directory.for_pull(&"x".parse().unwrap(), &Credentials::Anonymous).unwrap();
        let mut tour = Tour::new(list);
        let (mirror, registry) = (tour.next().unwrap(), tour.next().unwrap());
        tour.failed(registry, Failure::bad("from the registry"));
        tour.failed(mirror, Failure::bad("from the mirror"));
        let error = tour.into_error(|failure| Error::internal(failure.brief()));
        assert_eq!(error.message(), "from the registry");
        let hint = error.hint().unwrap();
        assert!(hint.contains("https://m.example (from the mirror)"), "{hint}");
    }
}
