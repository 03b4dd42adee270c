//! `/info` and `/version`.

use std::collections::BTreeMap;

use barque_api::ApiVersion;
use barque_api::swarm::SwarmInfo;
use barque_api::system::{
    AddressPool, Commit, ComponentVersion, FirewallInfo, IndexInfo, Info, PluginsInfo, RegistryConfig, Runtime,
    Version, VersionPlatform,
};
use barque_engine::system::EngineInfo;
use barque_model::{Platform, Timestamp};

use crate::config::Settings;
use crate::state::State;

/// `amd64`, `arm64`, …
fn go_arch() -> String {
    Platform::host().architecture
}

pub(crate) fn version(state: &State, info: &EngineInfo) -> Version {
    let product = &state.product;
    let settings = state.settings();
    let details = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("Arch", go_arch()),
        ("BuildTime", product.build_time.clone()),
        ("Experimental", settings.experimental.to_string()),
        ("GitCommit", product.git_commit.clone()),
        ("KernelVersion", info.kernel_version.clone()),
        ("MinAPIVersion", settings.min_api_version.to_string()),
        ("Os", "linux".to_owned()),
    ];
    let engine = ComponentVersion {
        name: "Engine".into(),
        version: product.version.clone(),
        details: Some(details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
    };
    Version {
        platform: VersionPlatform { name: product.name.clone() },
        components: Some(vec![engine]),
        version: product.version.clone(),
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: settings.min_api_version.to_string(),
        git_commit: product.git_commit.clone(),
        go_version: String::new(),
        os: "linux".into(),
        arch: go_arch(),
        kernel_version: info.kernel_version.clone(),
        experimental: settings.experimental,
        build_time: product.build_time.clone(),
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn info(state: &State, engine: &EngineInfo, version: ApiVersion) -> Info {
    let settings = state.settings();
    // Proxies may come from the environment too.
    let registry = &state.engine.config().registry;
    let commit = |id: &str| Commit { id: id.to_owned(), expected: version.before(49).then(|| id.to_owned()) };
    let names = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let pool = |(base, size): &(ipnet::IpNet, u8)| AddressPool { base: base.to_string(), size: i64::from(*size) };
    Info {
        driver: "overlay2".into(),
        driver_status: Some(driver_status(engine)),
        plugins: PluginsInfo {
            volume: names(&["local"]),
            network: names(&["bridge", "host", "ipvlan", "macvlan", "null"]),
            authorization: None,
            log: names(&["json-file", "local", "none"]),
        },
        bridge_nf_iptables: version.before(50).then_some(false),
        bridge_nf_ip6tables: version.before(50).then_some(false),
        debug: settings.debug,
        logging_driver: settings.log_driver.clone().unwrap_or_else(|| "json-file".into()),
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: Some(registry_config(&settings, version)),
        docker_root_dir: settings.data_root.to_string_lossy().into_owned(),
        http_proxy: masked(&text(&registry.http_proxy)),
        https_proxy: masked(&text(&registry.https_proxy)),
        no_proxy: text(&registry.no_proxy),
        labels: settings.labels.clone(),
        experimental_build: settings.experimental,
        server_version: state.product.version.clone(),
        runtimes: runtimes(),
        default_runtime: settings.default_runtime.clone().unwrap_or_else(|| "runc".into()),
        swarm: SwarmInfo::default(),
        live_restore_enabled: state.engine.live_restore(),
        init_binary: "barque-init".into(),
        containerd_commit: commit(""),
        runc_commit: commit(&state.product.git_commit),
        init_commit: commit(&state.product.git_commit),
        default_address_pools: super::listed(settings.address_pools.iter().map(pool).collect()),
        firewall_backend: version.at_least(49).then(|| FirewallInfo { driver: "nftables".into(), info: None }),
        cdi_spec_dirs: Some(Vec::new()),
        warnings: super::listed([&engine.warnings[..], &listening_warnings(&settings)].concat()),
        ..machine(engine, version)
    }
}

/// What the engine says of itself and of the machine.
fn machine(engine: &EngineInfo, version: ApiVersion) -> Info {
    Info {
        id: engine.engine_id.clone(),
        containers: count(engine.containers),
        containers_running: count(engine.running),
        containers_paused: count(engine.paused),
        containers_stopped: count(engine.stopped),
        images: count(engine.images),
        memory_limit: true,
        swap_limit: true,
        kernel_memory: version.before(42).then_some(true),
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        ipv4_forwarding: engine.ipv4_forwarding,
        nfd: count(engine.file_descriptors),
        oom_kill_disable: engine.cgroup_version == 1,
        ngoroutines: count(engine.goroutines),
        system_time: Timestamp::now().to_string(),
        cgroup_driver: engine.cgroup_driver.clone(),
        cgroup_version: engine.cgroup_version.to_string(),
        nevents_listener: count(engine.event_listeners),
        kernel_version: engine.kernel_version.clone(),
        operating_system: engine.operating_system.clone(),
        os_version: engine.os_version.clone(),
        os_type: "linux".into(),
        architecture: std::env::consts::ARCH.into(),
        ncpu: count(engine.cpus),
        mem_total: i64::try_from(engine.memory).unwrap_or(i64::MAX),
        name: engine.hostname.clone(),
        security_options: security_options(engine),
        ..Info::default()
    }
}

fn driver_status(engine: &EngineInfo) -> Vec<[String; 2]> {
    let rows = [
        ("Backing Filesystem", engine.backing_filesystem.as_str()),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ];
    rows.map(|(name, value)| [name.to_owned(), value.to_owned()]).into()
}

fn security_options(engine: &EngineInfo) -> Vec<String> {
    let mut options = engine.security_options.clone();
    if engine.cgroup_version == 2 && !options.iter().any(|option| option == "name=cgroupns") {
        options.push("name=cgroupns".into());
    }
    options
}

/// Docker's warning for an API that anybody on the network may use.
fn listening_warnings(settings: &Settings) -> Vec<String> {
    let warning = |host: &str| {
        let address = format!("http://{}", host.trim_start_matches("tcp://"));
        format!(
            "[DEPRECATION NOTICE]: API is accessible on {address} without encryption.\n         Access to the remote \
             API is equivalent to root access on the host."
        )
    };
    settings.open_to_all().map(warning).collect()
}

fn registry_config(settings: &Settings, version: ApiVersion) -> RegistryConfig {
    let (cidrs, hosts): (Vec<String>, Vec<String>) =
        settings.insecure_registries.iter().cloned().partition(|entry| entry.parse::<ipnet::IpNet>().is_ok());
    let mut indexes = BTreeMap::new();
    let mirrors: Vec<String> =
        settings.registry_mirrors.iter().map(|mirror| format!("{}/", mirror.trim_end_matches('/'))).collect();
    let official = IndexInfo { name: "docker.io".into(), mirrors: mirrors.clone(), secure: true, official: true };
    indexes.insert("docker.io".to_owned(), official);
    for host in hosts {
        let index = IndexInfo { name: host.clone(), mirrors: Vec::new(), secure: false, official: false };
        indexes.insert(host, index);
    }
    let mut cidrs = cidrs;
    for loopback in ["::1/128", "127.0.0.0/8"] {
        if !cidrs.iter().any(|cidr| cidr == loopback) {
            cidrs.push(loopback.to_owned());
        }
    }
    RegistryConfig {
        allow_nondistributable_artifacts_cidrs: version.before(47).then(Vec::new),
        allow_nondistributable_artifacts_hostnames: version.before(47).then(Vec::new),
        insecure_registry_cidrs: cidrs,
        index_configs: indexes,
        mirrors: Some(mirrors),
    }
}

/// The built-in one answers to the names clients expect. Those of the configuration are not listed: none can be used.
fn runtimes() -> BTreeMap<String, Runtime> {
    let built_in = || Runtime { path: "barque".into(), ..Runtime::default() };
    ["runc", "io.containerd.runc.v2"].map(|name| (name.to_owned(), built_in())).into()
}

/// A proxy's address without its password.
fn masked(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_proxies() {
        assert_eq!(masked("http://u:p@host:1"), "http://xxxxx:xxxxx@host:1");
        assert_eq!(masked("http://host:1"), "http://host:1");
    }
}
