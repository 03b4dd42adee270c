//! The typed result of flags and file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use barque_api::ApiVersion;
use barque_api::container::LogConfig;
use barque_api::system::Runtime;
use barque_engine::container::spec::Ulimit;
use barque_model::{Error, Result};
use ipnet::IpNet;

use super::options::{OPTIONS, Support};
use super::values::{Value, Values};

/// What holds where nothing is said; the binary's choice.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    /// Addresses to listen on.
    pub hosts: Vec<String>,
    /// Directory with `ca.pem`, `cert.pem` and `key.pem` for TLS.
    pub cert_dir: PathBuf,
}

/// TLS of TCP listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Clients must show a certificate of the authority.
    pub verify: bool,
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Proxies for pulls and pushes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    pub no_proxy: Option<String>,
}

/// The daemon's configuration. `None` is "not said".
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    pub hosts: Vec<String>,
    /// Group of the unix socket, a name or number.
    pub group: Option<String>,
    pub tls: Option<TlsSettings>,
    pub debug: bool,
    /// `debug`, `info`, `warn`, `error` or `fatal`.
    pub log_level: String,
    pub raw_logs: bool,
    pub labels: Vec<String>,
    pub experimental: bool,
    pub features: BTreeMap<String, bool>,
    pub min_api_version: ApiVersion,
    pub live_restore: Option<bool>,
    /// Seconds.
    pub shutdown_timeout: u64,
    pub storage_driver: Option<String>,
    pub log_driver: Option<String>,
    pub log_opts: BTreeMap<String, String>,
    pub cgroup_parent: Option<String>,
    /// `cgroupfs` or `systemd`, from `exec-opts`.
    pub cgroup_driver: Option<String>,
    pub default_runtime: Option<String>,
    pub runtimes: BTreeMap<String, Runtime>,
    pub ulimits: Vec<Ulimit>,
    /// Bytes.
    pub shm_size: Option<u64>,
    pub ipc_mode: Option<String>,
    pub cgroupns_mode: Option<String>,
    pub init: bool,
    pub no_new_privileges: bool,
    /// A path, or `unconfined`, or `builtin`.
    pub seccomp_profile: Option<String>,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub proxies: Proxies,
    pub max_concurrent_downloads: Option<usize>,
    pub max_concurrent_uploads: Option<usize>,
    pub bridge: Option<String>,
    pub bip: Option<IpNet>,
    pub fixed_cidr: Option<IpNet>,
    pub fixed_cidr_v6: Option<IpNet>,
    pub default_gateway: Option<IpAddr>,
    pub mtu: Option<u32>,
    pub address_pools: Vec<(IpNet, u8)>,
    /// Host address of published ports.
    pub ip: Option<IpAddr>,
    pub ipv6: bool,
    pub icc: Option<bool>,
    pub ip_masq: Option<bool>,
    pub ip_forward: Option<bool>,
    pub iptables: Option<bool>,
    pub ip6tables: Option<bool>,
    pub userland_proxy: Option<bool>,
    pub firewall_backend: Option<String>,
    pub dns: Vec<IpAddr>,
    pub dns_opts: Vec<String>,
    pub dns_search: Vec<String>,
    pub host_gateway_ips: Vec<IpAddr>,
    pub builder: Option<serde_json::Value>,
    /// Options that were taken and have no effect, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads typed values and names the option in errors.
struct Reader<'a>(&'a Values);

impl Reader<'_> {
    fn bool(&self, key: &str) -> Option<bool> {
        match self.0.get(key) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn path(&self, key: &str, default: &std::path::Path) -> PathBuf {
        self.text(key).map_or_else(|| default.to_owned(), PathBuf::from)
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.0.get(key) {
            Some(Value::List(items)) => items.clone(),
            _ => Vec::new(),
        }
    }

    fn map(&self, key: &str) -> BTreeMap<String, String> {
        match self.0.get(key) {
            Some(Value::Map(entries)) => entries.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// A number that must not be negative.
    fn number(&self, key: &str) -> Result<Option<u64>> {
        match self.0.get(key) {
            Some(Value::Int(number)) => match u64::try_from(*number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::invalid(format!("invalid {key}: {number}: it must not be negative"))),
            },
            _ => Ok(None),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, key: &str, what: &str) -> Result<Option<T>> {
        self.text(key).map(|text| parse(key, &text, what)).transpose()
    }

    fn parsed_list<T: std::str::FromStr>(&self, key: &str, what: &str) -> Result<Vec<T>> {
        self.list(key).iter().map(|text| parse(key, text, what)).collect()
    }

    fn document<T: serde::de::DeserializeOwned + Default>(&self, key: &str) -> Result<T> {
        match self.0.get(key) {
            Some(Value::Json(document)) => {
                barque_api::json::from_value(document).map_err(|why| Error::invalid(format!("invalid {key}: {why}")))
            }
            _ => Ok(T::default()),
        }
    }
}

fn parse<T: std::str::FromStr>(key: &str, text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(format!("invalid {key}: {text:?} is not {what}")))
}

impl Settings {
    /// Gives the values their types.
    ///
    /// # Errors
    /// A malformed or contradictory value; an option that is not supported.
    pub fn from_values(values: &Values, defaults: &Defaults) -> Result<Settings> {
        let mut warnings = check_support(values)?;
        let read = Reader(values);
        warnings.extend(without_effect(&read)?);
        log_format(&read)?;
        let given = read.list("hosts");
        let hosts = if given.is_empty() { defaults.hosts.clone() } else { given };
        let exec_root = read.path("exec-root", &defaults.exec_root);
        let settings = Settings {
            data_root: read.path("data-root", &defaults.data_root),
            pidfile: read.path("pidfile", &pidfile_beside(&exec_root, defaults)),
            exec_root,
            hosts,
            group: read.text("group"),
            tls: tls(&read, defaults)?,
            debug: read.bool("debug").unwrap_or(false),
            log_level: log_level(&read)?,
            raw_logs: read.bool("raw-logs").unwrap_or(false),
            labels: labels(&read)?,
            experimental: read.bool("experimental").unwrap_or(false),
            features: read.document("features")?,
            min_api_version: min_api_version(&read)?,
            live_restore: read.bool("live-restore"),
            shutdown_timeout: read.number("shutdown-timeout")?.unwrap_or(15),
            storage_driver: storage_driver(&read)?,
            log_driver: read.text("log-driver"),
            log_opts: read.map("log-opts"),
            cgroup_parent: read.text("cgroup-parent"),
            cgroup_driver: cgroup_driver(&read)?,
            default_runtime: default_runtime(&read)?,
            runtimes: read.document("runtimes")?,
            ulimits: ulimits(&read)?,
            shm_size: shm_size(&read)?,
            ipc_mode: one_of(&read, "default-ipc-mode", &["shareable", "private"])?,
            cgroupns_mode: one_of(&read, "default-cgroupns-mode", &["host", "private"])?,
            init: read.bool("init").unwrap_or(false),
            no_new_privileges: read.bool("no-new-privileges").unwrap_or(false),
            seccomp_profile: read.text("seccomp-profile"),
            registry_mirrors: mirrors(&read)?,
            insecure_registries: read.list("insecure-registries"),
            proxies: proxies(&read),
            max_concurrent_downloads: limit(&read, "max-concurrent-downloads")?,
            max_concurrent_uploads: limit(&read, "max-concurrent-uploads")?,
            bridge: read.text("bridge"),
            bip: read.parsed("bip", "an address with prefix length")?,
            fixed_cidr: read.parsed("fixed-cidr", "a subnet")?,
            fixed_cidr_v6: read.parsed("fixed-cidr-v6", "a subnet")?,
            default_gateway: read.parsed("default-gateway", "an address")?,
            mtu: read.number("mtu")?.map(|mtu| u32::try_from(mtu).unwrap_or(u32::MAX)).filter(|mtu| *mtu > 0),
            address_pools: address_pools(&read)?,
            ip: read.parsed("ip", "an address")?,
            ipv6: read.bool("ipv6").unwrap_or(false),
            icc: read.bool("icc"),
            ip_masq: read.bool("ip-masq"),
            ip_forward: read.bool("ip-forward"),
            iptables: read.bool("iptables"),
            ip6tables: read.bool("ip6tables"),
            userland_proxy: read.bool("userland-proxy"),
            firewall_backend: firewall_backend(&read)?,
            dns: read.parsed_list("dns", "an address")?,
            dns_opts: read.list("dns-opts"),
            dns_search: read.list("dns-search"),
            host_gateway_ips: read.parsed_list("host-gateway-ips", "an address")?,
            builder: read.document::<Option<serde_json::Value>>("builder")?,
            warnings,
        };
        settings.check()?;
        Ok(settings)
    }

    /// What only shows in several values together.
    fn check(&self) -> Result<()> {
        // Unlike dockerd, --bridge with --bip is fine: the engine makes the bridge it is told the name of, so that
        // several engines on one machine each have their own.
        if self.iptables == Some(false) && self.icc == Some(false) {
            return Err(Error::invalid(
                "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. \
                 Please set --icc or --iptables to true",
            ));
        }
        let kind = self.log_driver.clone().unwrap_or_else(|| "json-file".into());
        crate::convert::log::spec(&LogConfig { kind, config: Some(self.log_opts.clone()) })
            .map_err(|error| error.context("failed to set log opts"))?;
        for host in &self.hosts {
            crate::listen::check_address(host)?;
        }
        Ok(())
    }
}

/// Sentences on options without effect; an error for those that would be missed.
fn check_support(values: &Values) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for opt in OPTIONS {
        let Some(value) = values.get(opt.name()) else { continue };
        let default = match value {
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Json(document) => document.as_object().is_some_and(serde_json::Map::is_empty),
        };
        match opt.support {
            Support::Not if !default => {
                return Err(Error::not_implemented(format!("the daemon option {}", opt.name()))
                    .with_hint(format!("remove {} from the flags and the configuration file", opt.name())));
            }
            Support::Ignored(why) => warnings.push(format!("the option {} has no effect: {why}", opt.name())),
            _ => {}
        }
    }
    Ok(warnings)
}

/// What is taken for the sake of files that are about, and has no effect.
fn without_effect(read: &Reader<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let features: BTreeMap<String, bool> = read.document("features")?;
    if features.get("containerd-snapshotter") == Some(&true) {
        warnings.push(
            "the feature containerd-snapshotter has no effect: images have one store, which is no containerd".into(),
        );
    }
    if cgroup_driver(read)?.as_deref() == Some("systemd") {
        warnings.push("the exec-opt native.cgroupdriver=systemd has no effect: control groups are made in the file system (cgroupfs)".into());
    }
    Ok(warnings)
}

fn default_runtime(read: &Reader<'_>) -> Result<Option<String>> {
    match read.text("default-runtime") {
        Some(name) if crate::convert::create::runtime(&name).is_err() => {
            Err(Error::invalid(format!("specified default runtime '{name}' does not exist"))
                .with_hint("leave default-runtime out: the built-in one is used"))
        }
        name => Ok(name),
    }
}

fn tls(read: &Reader<'_>, defaults: &Defaults) -> Result<Option<TlsSettings>> {
    let verify = read.bool("tlsverify");
    // `--tlsverify`, even `=false`, implies TLS.
    if !read.bool("tls").unwrap_or(false) && verify.is_none() {
        return Ok(None);
    }
    let file = |key: &str, name: &str| read.path(key, &defaults.cert_dir.join(name));
    Ok(Some(TlsSettings {
        verify: verify.unwrap_or(false),
        ca: file("tlscacert", "ca.pem"),
        cert: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
    }))
}

fn one_of(read: &Reader<'_>, key: &str, words: &[&str]) -> Result<Option<String>> {
    match read.text(key) {
        Some(text) if !words.contains(&text.as_str()) => {
            Err(Error::invalid(format!("invalid {key}: {text:?} is none of {}", words.join(", "))))
        }
        text => Ok(text),
    }
}

fn log_level(read: &Reader<'_>) -> Result<String> {
    let words = ["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"];
    match read.text("log-level") {
        Some(text) if !words.contains(&text.as_str()) => {
            Err(Error::invalid(format!("invalid logging level: {text}"))
                .with_hint(format!("one of {}", words.join(", "))))
        }
        Some(text) => Ok(if text == "warning" { "warn".into() } else { text }),
        None if read.bool("debug") == Some(true) => Ok("debug".into()),
        None => Ok("info".into()),
    }
}

fn log_format(read: &Reader<'_>) -> Result<()> {
    match read.text("log-format").as_deref() {
        None | Some("text") => Ok(()),
        Some("json") => Err(Error::not_implemented("log-format json").with_hint("use log-format text")),
        Some(other) => Err(Error::invalid(format!("invalid log format: {other}")).with_hint("use log-format text")),
    }
}

fn labels(read: &Reader<'_>) -> Result<Vec<String>> {
    let labels = read.list("labels");
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for label in &labels {
        let Some((key, value)) = label.split_once('=') else {
            return Err(Error::invalid(format!("bad attribute format: {label}")).with_hint("labels are KEY=VALUE"));
        };
        if let Some(other) = seen.insert(key, value)
            && other != value
        {
            return Err(Error::invalid(format!("conflict labels for {key}={value} and {key}={other}")));
        }
    }
    Ok(labels)
}

fn min_api_version(read: &Reader<'_>) -> Result<ApiVersion> {
    let Some(text) = read.text("min-api-version") else { return Ok(ApiVersion::MIN) };
    let version: ApiVersion = parse("min-api-version", &text, "an API version such as 1.24")?;
    if version < ApiVersion::MIN {
        return Err(Error::invalid(format!("minimum supported API version is {}: {version}", ApiVersion::MIN)));
    }
    if version > ApiVersion::MAX {
        return Err(Error::invalid(format!("maximum supported API version is {}: {version}", ApiVersion::MAX)));
    }
    Ok(version)
}

fn storage_driver(read: &Reader<'_>) -> Result<Option<String>> {
    match read.text("storage-driver") {
        Some(name) if !matches!(name.as_str(), "overlay2" | "overlayfs" | "overlay") => {
            Err(Error::not_implemented(format!("the storage driver {name}")).with_hint("leave storage-driver out"))
        }
        name => Ok(name),
    }
}

fn firewall_backend(read: &Reader<'_>) -> Result<Option<String>> {
    match read.text("firewall-backend") {
        Some(name) if name == "iptables" => Err(Error::not_implemented("the firewall backend iptables")
            .with_hint("leave firewall-backend out: rules are made with nftables")),
        Some(name) if name != "nftables" => Err(Error::invalid(format!("invalid firewall-backend: {name:?}"))),
        name => Ok(name),
    }
}

fn cgroup_driver(read: &Reader<'_>) -> Result<Option<String>> {
    let mut driver = None;
    for option in read.list("exec-opts") {
        match option.split_once('=') {
            Some(("native.cgroupdriver", value @ ("cgroupfs" | "systemd"))) => driver = Some(value.to_owned()),
            Some(("native.cgroupdriver", value)) => {
                return Err(Error::invalid(format!("invalid exec-opt native.cgroupdriver: {value:?}"))
                    .with_hint("cgroupfs or systemd"));
            }
            _ => return Err(Error::invalid(format!("invalid exec-opt: {option:?}"))),
        }
    }
    Ok(driver)
}

fn ulimits(read: &Reader<'_>) -> Result<Vec<Ulimit>> {
    let wire: BTreeMap<String, barque_api::container::Ulimit> = read.document("default-ulimits")?;
    wire.into_iter()
        .map(|(key, limit)| {
            let name = if limit.name.is_empty() { key } else { limit.name };
            if limit.hard != -1 && (limit.soft > limit.hard || limit.soft == -1) {
                return Err(Error::invalid(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                    limit.soft, limit.hard
                )));
            }
            Ok(Ulimit { name, soft: limit.soft, hard: limit.hard })
        })
        .collect()
}

/// The pid file where none is named: engines of different roots run side by side.
fn pidfile_beside(exec_root: &Path, defaults: &Defaults) -> PathBuf {
    if exec_root == defaults.exec_root {
        return defaults.pidfile.clone();
    }
    let mut path = exec_root.components().collect::<PathBuf>().into_os_string();
    path.push(".pid");
    path.into()
}

fn shm_size(read: &Reader<'_>) -> Result<Option<u64>> {
    let Some(text) = read.text("default-shm-size") else { return Ok(None) };
    let size = barque_model::size::parse_binary(&text)
        .map_err(|why| Error::invalid(format!("invalid default-shm-size: {text:?}")).with_source(why))?;
    Ok(Some(size).filter(|size| *size > 0))
}

fn proxies(read: &Reader<'_>) -> Proxies {
    Proxies { http: read.text("http-proxy"), https: read.text("https-proxy"), no_proxy: read.text("no-proxy") }
}

fn limit(read: &Reader<'_>, key: &str) -> Result<Option<usize>> {
    Ok(read.number(key)?.map(|number| usize::try_from(number).unwrap_or(usize::MAX)).filter(|number| *number > 0))
}

fn mirrors(read: &Reader<'_>) -> Result<Vec<String>> {
    let mirrors = read.list("registry-mirrors");
    for mirror in &mirrors {
        let invalid = |why: &str| Error::invalid(format!("invalid mirror: {why}: {mirror:?}"));
        let Some((scheme, rest)) = mirror.split_once("://") else {
            return Err(invalid("no scheme specified").with_hint("must use either 'https://' or 'http://'"));
        };
        if !matches!(scheme, "http" | "https") {
            return Err(invalid("unsupported scheme").with_hint("must use either 'https://' or 'http://'"));
        }
        if rest.contains(['?', '#']) {
            return Err(invalid("query or fragment at end of the URI"));
        }
        if rest.is_empty() || rest.starts_with('/') {
            return Err(invalid("host is missing"));
        }
    }
    Ok(mirrors)
}

fn address_pools(read: &Reader<'_>) -> Result<Vec<(IpNet, u8)>> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Pool {
        base: String,
        size: u8,
    }
    let pools: Vec<Pool> = read.document("default-address-pools")?;
    pools
        .into_iter()
        .map(|pool| {
            let base: IpNet = parse("default-address-pools", &pool.base, "a subnet")?;
            if pool.size < base.prefix_len() || pool.size > base.max_prefix_len() {
                return Err(Error::invalid(format!(
                    "invalid default-address-pools: size {} does not fit into {base}",
                    pool.size
                )));
            }
            Ok((base, pool.size))
        })
        .collect()
}
