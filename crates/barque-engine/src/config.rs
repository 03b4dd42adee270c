//! What an engine needs to know about its surroundings. Everything is a value: nothing is read from
//! files or the environment here.

use std::net::IpAddr;
use std::path::PathBuf;

use barque_registry::ClientConfig;
use ipnet::IpNet;

use crate::container::spec::{LogSpec, Ulimit};

/// Settings of one engine. Several engines with different roots run side by side.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Durable state: database, blobs, layers, volumes.
    pub data_root: PathBuf,
    /// State that ends with the machine's uptime: sockets, pids, exit records.
    pub exec_root: PathBuf,
    pub network: NetworkSettings,
    pub registry: RegistrySettings,
    /// Log driver and options of containers that name none.
    pub default_log: LogSpec,
    pub default_ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm` where a container names no size.
    pub default_shm_size: u64,
    /// Parent of all containers' cgroups; `None` chooses by the machine's layout.
    pub cgroup_parent: Option<String>,
    /// Runs a container's first process under a reaper where the container does not say.
    pub init: bool,
    /// Leaves containers running when the engine stops.
    pub live_restore: bool,
    /// Seccomp profile (JSON text) instead of the built-in one.
    pub seccomp_profile: Option<String>,
    pub no_new_privileges: bool,
    pub labels: Vec<String>,
    pub debug: bool,
    /// Paths of the engine's own listening sockets, for `:ro` mounts of them and `info`.
    pub sockets: Vec<PathBuf>,
    /// A socket whose API only reads, which a container gets where it mounts one of `sockets` read-only.
    pub read_only_socket: Option<PathBuf>,
    /// Seconds that a stop of the engine waits for containers.
    pub shutdown_timeout_secs: u64,
}

/// The default bridge and what all networks share.
#[derive(Clone, Debug, Default)]
pub struct NetworkSettings {
    /// Name of the default network's bridge device; `Some("none")` makes no default bridge.
    pub bridge: Option<String>,
    /// Address and prefix of the default bridge.
    pub bip: Option<IpNet>,
    pub fixed_cidr: Option<IpNet>,
    pub default_gateway: Option<IpAddr>,
    pub mtu: Option<u32>,
    /// Pools for networks without a subnet: base and prefix length of each network.
    pub address_pools: Vec<(IpNet, u8)>,
    /// Host address of published ports that name none.
    pub default_ip: Option<IpAddr>,
    pub ipv6: bool,
    pub fixed_cidr_v6: Option<IpNet>,
    pub icc: Option<bool>,
    pub ip_masq: Option<bool>,
    pub ip_forward: Option<bool>,
    /// `false` leaves the packet filter alone.
    pub firewall: Option<bool>,
    pub userland_proxy: Option<bool>,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub host_gateway_ip: Option<IpAddr>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// Mirrors of docker.io, tried in order.
    pub mirrors: Vec<String>,
    /// Hosts (`name[:port]`) and networks (CIDR) reached by plain HTTP or without verification.
    pub insecure: Vec<String>,
    /// Directories with `HOST/ca.crt` and client certificates.
    pub certs_dirs: Vec<PathBuf>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    pub max_concurrent_downloads: Option<usize>,
    pub max_concurrent_uploads: Option<usize>,
    /// Base URL of the search index instead of the public one.
    pub index_url: Option<String>,
}

impl RegistrySettings {
    /// The settings as the registry client takes them.
    pub fn client_config(&self) -> ClientConfig {
        let mut config =
            ClientConfig { mirrors: self.mirrors.clone(), insecure: self.insecure.clone(), ..ClientConfig::default() };
        if !self.certs_dirs.is_empty() {
            config.certs_dirs.clone_from(&self.certs_dirs);
        }
        config.proxy.http.clone_from(&self.http_proxy);
        config.proxy.https.clone_from(&self.https_proxy);
        config.proxy.no_proxy = self.no_proxy.clone().unwrap_or_default();
        if let Some(url) = &self.index_url {
            config.index_url.clone_from(url);
        }
        config
    }
}

impl EngineConfig {
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        EngineConfig {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            network: NetworkSettings::default(),
            registry: RegistrySettings::default(),
            default_log: LogSpec::default(),
            default_ulimits: Vec::new(),
            default_shm_size: 64 << 20,
            cgroup_parent: None,
            init: false,
            live_restore: true,
            seccomp_profile: None,
            no_new_privileges: false,
            labels: Vec::new(),
            debug: false,
            sockets: Vec::new(),
            read_only_socket: None,
            shutdown_timeout_secs: 15,
        }
    }
}
