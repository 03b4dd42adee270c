//! What a client is told, and the checks on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use barque_model::{Error, Result};
use ipnet::IpNet;
use url::Url;

/// Settings of a [`Client`](super::Client). All values are given; nothing is read from the environment.
#[derive(Clone)]
pub struct ClientConfig {
    /// Mirrors of `docker.io`, asked in this order before it: `http://` or `https://` URLs, `user:password@` allowed.
    pub mirrors: Vec<String>,
    /// Mirrors of other registries, by registry host.
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// Registries that may be spoken to without TLS or with an unknown certificate: `host`, `host:port`, an address
    /// or a CIDR. `localhost`, `127.0.0.0/8` and `::1` always are.
    pub insecure: Vec<String>,
    /// Directories holding `HOST[:PORT]/{*.crt, *.cert + *.key}`, earlier ones first (Docker: `/etc/docker/certs.d`).
    pub certs_dirs: Vec<PathBuf>,
    /// PEM files trusted in addition to (not instead of) the system's.
    pub extra_roots: Vec<PathBuf>,
    /// Proxies.
    pub proxy: ProxyConfig,
    /// `User-Agent` header.
    pub user_agent: String,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How long a response's header may take.
    pub response_timeout: Duration,
    /// How long a body may be silent.
    pub idle_timeout: Duration,
    /// How often a request that failed for a passing reason is made again.
    pub retries: u32,
    /// First wait between attempts; doubles each time, with jitter.
    pub backoff: Duration,
    /// Longest wait between attempts, also the longest `Retry-After` obeyed.
    pub backoff_max: Duration,
    /// Requests in flight per host.
    pub max_per_host: usize,
    /// Base URL of the index asked by `search` when the term names no registry.
    pub index_url: String,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            registry_mirrors: BTreeMap::new(),
            insecure: Vec::new(),
            certs_dirs: Vec::new(),
            extra_roots: Vec::new(),
            proxy: ProxyConfig::default(),
            user_agent: concat!("barque/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(15),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            retries: 5,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(60),
            max_per_host: 16,
            index_url: "https://index.docker.io".to_owned(),
        }
    }
}

/// URLs may hold passwords, which stay out of logs.
impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mirrors: Vec<String> = self.mirrors.iter().map(|url| without_user(url)).collect();
        let (insecure, certs_dirs) = (&self.insecure, &self.certs_dirs);
        f.debug_struct("ClientConfig")
            .field("mirrors", &mirrors)
            .field("insecure", insecure)
            .field("certs_dirs", certs_dirs)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("http", &self.http.as_deref().map(without_user))
            .field("https", &self.https.as_deref().map(without_user))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}***@{host}")
        }
        None => url.to_owned(),
    }
}

/// Proxies, as in `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Proxy for `http://` targets: `[http://][user:password@]host[:port]`.
    pub http: Option<String>,
    /// Proxy for `https://` targets, asked to `CONNECT`.
    pub https: Option<String>,
    /// Comma-separated hosts, domains (`.example`), addresses and CIDRs reached directly; `*` for all.
    pub no_proxy: String,
}

/// The hosts that need no TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct InsecureHosts {
    names: Vec<String>,
    networks: Vec<IpNet>,
}

impl InsecureHosts {
    pub(crate) fn parse(entries: &[String]) -> Result<Self> {
        let mut hosts = Self::default();
        for entry in entries {
            let entry = entry.trim();
            if let Ok(network) = entry.parse::<IpNet>() {
                hosts.networks.push(network);
                continue;
            }
            let name = entry.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
            if name.is_empty() || name.contains('/') {
                return Err(Error::invalid(format!("insecure registry '{entry}' is not valid"))
                    .with_hint("write host, host:port or a CIDR such as 10.0.0.0/8"));
            }
            hosts.names.push(name.to_ascii_lowercase());
        }
        Ok(hosts)
    }

    /// Whether `authority` (`host[:port]`) is exempt from TLS.
    pub(crate) fn contains(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = host_of(&authority);
        if is_loopback(host) {
            return true;
        }
        if self.names.iter().any(|name| *name == authority || name == host) {
            return true;
        }
        let address = host.parse::<std::net::IpAddr>();
        address.is_ok_and(|address| self.networks.iter().any(|network| network.contains(&address)))
    }
}

/// The host of `host[:port]`, brackets of IPv6 removed.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Whether a host is this machine, as Docker sees it.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Checks a mirror's URL; one without a scheme means https.
pub(crate) fn mirror_url(text: &str) -> Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let invalid = |why: &str| {
        Error::invalid(format!("invalid mirror: {why} in '{text}'"))
            .with_hint("write an http or https URL, such as https://mirror.example")
    };
    let url = Url::parse(&full).map_err(|error| invalid(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" => {}
        other => return Err(invalid(&format!("unsupported scheme \"{other}\""))),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("no host"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("query or fragment at end of the URI"));
    }
    Ok(url)
}

/// What decides whether a target is reached through a proxy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Direct>,
}

#[derive(Debug, Clone)]
enum Direct {
    All,
    Network(IpNet),
    /// Suffix without the leading dot; whether the bare name matches too; port, when one was written.
    Domain(String, bool, Option<u16>),
}

impl Proxies {
    pub(crate) fn parse(config: &ProxyConfig) -> Result<Self> {
        let http = config.http.as_deref().filter(|text| !text.is_empty()).map(proxy_url).transpose()?;
        let https = config.https.as_deref().filter(|text| !text.is_empty()).map(proxy_url).transpose()?;
        let entries = config.no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self { http, https, direct: entries.map(direct).collect() })
    }

    /// The proxy to use for a target, when there is one. Loopback is always reached directly.
    pub(crate) fn for_target(&self, https: bool, host: &str, port: u16) -> Option<&Url> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if is_loopback(&host) || self.direct.iter().any(|rule| rule.covers(&host, port)) {
            return None;
        }
        proxy
    }
}

impl Direct {
    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Direct::All => true,
            Direct::Network(network) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| network.contains(&ip)),
            Direct::Domain(suffix, bare, wanted) => {
                let below = host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'));
                wanted.is_none_or(|wanted| wanted == port) && (below || (*bare && host == suffix))
            }
        }
    }
}

fn direct(entry: &str) -> Direct {
    if entry == "*" {
        return Direct::All;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return Direct::Network(network);
    }
    if let Ok(address) = entry.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        return Direct::Network(address.into());
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (entry, None),
    };
    let name = name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
    match name.strip_prefix('.') {
        Some(suffix) => Direct::Domain(suffix.to_owned(), false, port),
        None => Direct::Domain(name, true, port),
    }
}

fn proxy_url(text: &str) -> Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).map_err(|error| Error::invalid(format!("invalid proxy address: {error}")))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        other => Err(Error::invalid(format!("unsupported proxy scheme \"{other}\""))
            .with_hint("use an http:// or https:// proxy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_hosts() {
        let entries = ["Reg.example:5000", "plain.example", "10.0.0.0/8", "http://u.example/"].map(String::from);
        let hosts = InsecureHosts::parse(&entries).unwrap();
        for good in ["reg.example:5000", "plain.example:99", "plain.example", "10.1.2.3:5000", "u.example"] {
            assert!(hosts.contains(good), "{good}");
        }
        for good in ["localhost", "localhost:5000", "127.9.9.9:1", "[::1]:5000"] {
            assert!(InsecureHosts::default().contains(good), "{good}");
        }
        for bad in ["reg.example", "reg.example:5001", "11.1.2.3", "localhost.example", "127.0.0.1.example"] {
            assert!(!hosts.contains(bad), "{bad}");
        }
        assert!(InsecureHosts::parse(&["a/b".to_owned()]).is_err());
    }

    #[test]
    fn mirrors_are_checked() {
        assert_eq!(mirror_url("mirror.example").unwrap().as_str(), "https://mirror.example/");
        assert_eq!(mirror_url("http://127.0.0.1:5005").unwrap().as_str(), "http://127.0.0.1:5005/");
        for bad in ["ftp://x", "http://", "https://x?y", "https://x#y", ""] {
            assert!(mirror_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_in_urls_are_not_printed() {
        let proxy = ProxyConfig { https: Some("me:hunter2@proxy.example".into()), ..ProxyConfig::default() };
        let mirrors = vec!["https://me:hunter2@mirror.example".to_owned()];
        let printed = format!("{:?}", ClientConfig { mirrors, proxy, ..ClientConfig::default() });
        assert!(printed.contains("https://***@mirror.example") && printed.contains("***@proxy.example"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn no_proxy_rules() {
        let config = ProxyConfig {
            http: Some("proxy.example:3128".into()),
            https: Some("http://u:p@proxy.example:3129".into()),
            no_proxy: "corp.example, .sub.example,10.0.0.0/8,192.0.2.7,one.example:8080,*.star.example".into(),
        };
        let proxies = Proxies::parse(&config).unwrap();
        let via = |host: &str, port| proxies.for_target(true, host, port).is_some();
        for direct in ["corp.example", "a.corp.example", "a.sub.example", "10.9.9.9", "192.0.2.7", "x.star.example"] {
            assert!(!via(direct, 443), "{direct}");
        }
        assert!(!via("one.example", 8080) && via("one.example", 443));
        for proxied in ["sub.example", "notcorp.example", "11.0.0.1", "192.0.2.8"] {
            assert!(via(proxied, 443), "{proxied}");
        }
        assert!(!via("localhost", 443) && !via("127.0.0.1", 443) && !via("[::1]", 443));
        assert_eq!(proxies.for_target(false, "x.example", 80).unwrap().port(), Some(3128));
        let all = ProxyConfig { no_proxy: "*".into(), ..config };
        assert!(Proxies::parse(&all).unwrap().for_target(true, "x.example", 443).is_none());
        assert!(Proxies::parse(&ProxyConfig { http: Some("socks5://x".into()), ..ProxyConfig::default() }).is_err());
    }
}
