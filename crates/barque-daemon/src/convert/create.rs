//! `POST /containers/create`: the wire document to the engine's definition.

use barque_api::ApiVersion;
use barque_api::container::{ContainerConfig, ContainerCreateQuery, ContainerCreateRequest, HostConfig};
use barque_engine::container::request::CreateContainer;
use barque_engine::container::spec::{ContainerSpec, NetworkMode, NetworkSpec, ProcessSpec};
use barque_model::{Error, Platform, Result};

use super::document::{Document, with_defaults};
use super::limits::Machine;
use super::{endpoint, health, log, mounts, ports, resources, restart, security};
use crate::config::Settings;
use crate::wording;

/// What the conversion needs to know of the daemon.
pub(crate) struct Surroundings<'a> {
    pub(crate) version: ApiVersion,
    pub(crate) settings: &'a Settings,
    pub(crate) machine: &'a Machine,
}

/// The engine's request, and warnings for the client.
///
/// # Errors
/// Docker's sentences for what makes no sense; `not implemented yet` for what is not built.
pub(crate) fn container(
    query: ContainerCreateQuery,
    request: ContainerCreateRequest,
    around: &Surroundings<'_>,
) -> Result<(CreateContainer, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut config = request.config;
    if config == ContainerConfig::default() {
        return Err(Error::invalid(wording::EMPTY_CONFIG));
    }
    let mut host = request.host_config.unwrap_or_default();
    let networking = request.networking_config;
    if let Some(name) = own_network(&host, networking.as_ref()) {
        host.network_mode = name;
    }
    let mac = container_mac(&mut config, around.version, &mut warnings)?;
    check_env(&config)?;
    let host = with_defaults(host, around.settings, around.machine.cgroup_v2);
    refuse_unsupported(&host)?;
    let (limits, dangers) = resources::limits(&host.resources, host.oom_score_adj, around.machine)?;
    warnings.extend(dangers);
    let mut network = network_spec(&config, &host, networking.as_ref(), around.version)?;
    network.mac_address = mac;
    network.disabled = config.network_disabled;
    let spec = ContainerSpec {
        image_ref: config.image.clone(),
        image_id: None,
        process: process(&config, &host)?,
        labels: config.labels.clone().unwrap_or_default(),
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        stop_signal: match config.stop_signal.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| wording::invalid_signal(text))?),
        },
        stop_timeout_secs: config.stop_timeout,
        healthcheck: config.healthcheck.as_ref().map(health::spec).transpose()?,
        exposed_ports: ports::exposed(config.exposed_ports.as_ref())?,
        mounts: mounts::wanted(&config, &host)?,
        image_volumes: Vec::new(),
        volumes_from: host.volumes_from.clone().unwrap_or_default(),
        network,
        restart: restart::policy(&host.restart_policy)?,
        auto_remove: host.auto_remove,
        security: security::security(&host)?,
        namespaces: security::namespaces(&host)?,
        resources: limits,
        ulimits: resources::ulimits(host.resources.ulimits.as_ref())?,
        shm_size: shm_size(host.shm_size)?,
        sysctls: host.sysctls.clone().unwrap_or_default(),
        devices: resources::devices(host.resources.devices.as_ref())?,
        device_cgroup_rules: host.resources.device_cgroup_rules.clone().unwrap_or_default(),
        init: host.init,
        log: Some(log::spec(&host.log_config)?),
        read_only: host.readonly_rootfs,
        annotations: host.annotations.clone().unwrap_or_default(),
        cgroup_parent: Some(host.resources.cgroup_parent.clone()).filter(|parent| !parent.is_empty()),
        runtime: runtime(&host.runtime)?,
    };
    let platform = platform(&query.platform)?;
    let document = Document { config, host }.to_text();
    let name = Some(query.name).filter(|name| !name.is_empty());
    Ok((CreateContainer { name, spec, document, platform }, warnings))
}

/// A client that names endpoints but no mode means them, not the default network.
fn own_network(host: &HostConfig, networking: Option<&barque_api::network::NetworkingConfig>) -> Option<String> {
    let endpoints = networking?.endpoints_config.as_ref()?;
    if !matches!(host.network_mode.as_str(), "" | "default")
        || endpoints.keys().any(|name| name == "default" || name == "bridge")
    {
        return None;
    }
    endpoints.keys().next().cloned()
}

/// `MacAddress` of the container as a whole, from clients that know no other.
fn container_mac(
    config: &mut ContainerConfig,
    version: ApiVersion,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let mac = config.mac_address.clone();
    if mac.is_empty() {
        return Ok(None);
    }
    if version.at_least(52) {
        return Err(Error::invalid(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address instead",
        ));
    }
    if version.at_least(44) {
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
                .into(),
        );
    }
    Ok(Some(mac))
}

fn check_env(config: &ContainerConfig) -> Result<()> {
    match config.env.iter().flatten().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        Some(entry) => Err(Error::invalid(format!("invalid environment variable: {entry}"))),
        None => Ok(()),
    }
}

fn process(config: &ContainerConfig, host: &HostConfig) -> Result<ProcessSpec> {
    let [rows, columns] = host.console_size;
    let size = |n: u32| u16::try_from(n).ok().filter(|n| *n > 0);
    Ok(ProcessSpec {
        entrypoint: config.entrypoint.clone().filter(|words| !words.is_empty()),
        cmd: config.cmd.clone(),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        group_add: host.group_add.clone().unwrap_or_default(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        shell: config.shell.clone().filter(|words| !words.is_empty()),
        console_size: size(rows).zip(size(columns)),
    })
}

/// Options that would be missed if they were taken and had no effect.
fn refuse_unsupported(host: &HostConfig) -> Result<()> {
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::invalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option"));
    }
    if !matches!(host.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(Error::invalid(format!("Invalid isolation: {:?} - linux only supports 'default'", host.isolation)));
    }
    Ok(())
}

/// What goes together with no network of one's own, or not.
fn check_mode(config: &ContainerConfig, host: &HostConfig, mode: &NetworkMode) -> Result<()> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let named = !config.hostname.is_empty();
    let linked = some(&host.links);
    let published = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let exposed = config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let shared = matches!(mode, NetworkMode::Container(_));
    let addressed = !config.mac_address.is_empty();
    let sentence = match mode {
        NetworkMode::Host | NetworkMode::Container(_) if addressed => "mac-address and the network mode",
        _ if named && host.uts_mode == "host" => "hostname and the UTS mode",
        NetworkMode::Host if linked => {
            "host type networking can't be used with links. This would result in undefined behavior"
        }
        _ if !shared => return Ok(()),
        _ if named => "hostname and the network mode",
        _ if linked => "container type network can't be used with links. This would result in undefined behavior",
        _ if some(&host.dns) => "dns and the network mode",
        _ if some(&host.extra_hosts) => "custom host-to-IP mapping and the network mode",
        _ if published => "port publishing and the container type network mode",
        _ if exposed => "port exposing and the container type network mode",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("conflicting options: {sentence}")))
}

fn network_spec(
    config: &ContainerConfig,
    host: &HostConfig,
    networking: Option<&barque_api::network::NetworkingConfig>,
    version: ApiVersion,
) -> Result<NetworkSpec> {
    let mode = endpoint::mode(&host.network_mode)?;
    check_mode(config, host, &mode)?;
    let mut dns = Vec::new();
    for text in host.dns.iter().flatten() {
        dns.push(text.parse().map_err(|_| Error::invalid(format!("bad format for dns server: {text}")))?);
    }
    for entry in host.extra_hosts.iter().flatten() {
        let address = entry.split_once([':', '=']).map(|(_, address)| address.trim_matches(['[', ']']));
        match address {
            Some("host-gateway") => {}
            Some(address) if address.parse::<std::net::IpAddr>().is_ok() => {}
            Some(address) => {
                return Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")));
            }
            None => return Err(Error::invalid(format!("bad format for add-host: {entry:?}"))),
        }
    }
    Ok(NetworkSpec {
        endpoints: endpoint::wishes(&mode, networking, version)?,
        ports: ports::wishes(host.port_bindings.as_ref())?,
        publish_all: host.publish_all_ports,
        dns,
        dns_search: host.dns_search.clone().unwrap_or_default(),
        dns_options: host.dns_options.clone().unwrap_or_default(),
        extra_hosts: host.extra_hosts.clone().unwrap_or_default(),
        links: host.links.clone().unwrap_or_default(),
        mac_address: None,
        disabled: false,
        mode,
    })
}

fn shm_size(bytes: i64) -> Result<Option<u64>> {
    match u64::try_from(bytes) {
        Ok(0) => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(Error::invalid("SHM size can not be less than 0")),
    }
}

/// Names of the built-in runtime, among them those clients know from Docker.
pub(crate) fn runtime(name: &str) -> Result<Option<String>> {
    match name {
        "" | "barque" | "runc" | "io.containerd.runc.v2" => Ok(None),
        other => Err(Error::invalid(format!("unknown or invalid runtime name: {other}"))
            .with_hint("leave --runtime out: the built-in one is used")),
    }
}

/// `os/arch[/variant]`, or nothing.
pub(crate) fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use barque_engine::container::spec::RestartPolicy;

    use super::*;
    use crate::config::{Defaults, Values, merge};

    fn settings() -> Settings {
        let path = std::path::PathBuf::from("/x");
        let defaults = Defaults {
            data_root: path.clone(),
            exec_root: path.clone(),
            pidfile: path.clone(),
            hosts: vec![],
            cert_dir: path,
        };
        merge(&Values::default(), None, &defaults).unwrap()
    }

    fn at(version: ApiVersion, json: &str) -> Result<(CreateContainer, Vec<String>)> {
        let settings = settings();
        let mut machine = Machine::with_two_cpus();
        machine.cgroup_v2 = true;
        let around = Surroundings { version, settings: &settings, machine: &machine };
        container(ContainerCreateQuery::default(), barque_api::json::from_str(json).unwrap(), &around)
    }

    fn of(json: &str) -> Result<(CreateContainer, Vec<String>)> {
        at(ApiVersion::MAX, json)
    }

    #[test]
    fn a_usual_request() {
        let json = r#"{"Image":"web","Cmd":["a"],"Entrypoint":null,"Env":["A=1"],"Labels":{"x":"y"},
            "ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT","StopTimeout":3,
            "HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8080"}]},"Binds":["/a:/b:ro","vol:/c"],
            "RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2},"NetworkMode":"mine","Memory":1000000000,
            "Init":true,"ShmSize":1048576,"AutoRemove":false,"ExtraHosts":["a:1.2.3.4","b:host-gateway"]},
            "NetworkingConfig":{"EndpointsConfig":{"mine":{"Aliases":["w"]}}}}"#;
        let (request, warnings) = of(json).unwrap();
        let spec = &request.spec;
        assert!(warnings.is_empty());
        assert_eq!((spec.image_ref.as_str(), spec.process.entrypoint.clone()), ("web", None));
        assert_eq!(spec.network.mode, NetworkMode::Named("mine".into()));
        assert_eq!(spec.network.endpoints[0].aliases, ["w"]);
        assert_eq!(spec.network.ports[0].host_ports, Some((8080, 8080)));
        assert_eq!(spec.restart, RestartPolicy::OnFailure { max_retries: 2 });
        assert_eq!((spec.mounts.len(), spec.shm_size, spec.stop_timeout_secs), (2, Some(1 << 20), Some(3)));
        let document = Document::parse(&request.document);
        assert_eq!(document.host.resources.memory_swap, 2_000_000_000);
        assert_eq!(document.config.image, "web");
    }

    #[test]
    fn endpoints_without_a_mode() {
        let (request, _) = of(r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"mine":{}}}}"#).unwrap();
        assert_eq!(request.spec.network.mode, NetworkMode::Named("mine".into()));
        let (request, _) = of(r#"{"Image":"a"}"#).unwrap();
        assert_eq!(request.spec.network.mode, NetworkMode::Default);
        assert_eq!(Document::parse(&request.document).host.network_mode, "bridge");
    }

    #[test]
    fn mac_addresses_by_version() {
        let json = r#"{"Image":"a","MacAddress":"02:00:00:00:00:01"}"#;
        assert!(of(json).is_err());
        let (request, warnings) = at(ApiVersion::new(1, 44), json).unwrap();
        assert_eq!((request.spec.network.mac_address.as_deref(), warnings.len()), (Some("02:00:00:00:00:01"), 1));
        assert!(at(ApiVersion::new(1, 43), json).unwrap().1.is_empty());
    }

    #[test]
    fn refusals() {
        for (json, wanted) in [
            ("{}", "config cannot be empty in order to create a container"),
            (r#"{"Image":"a","Env":["=x"]}"#, "invalid environment variable: =x"),
            (r#"{"Image":"a","StopSignal":"SIGFOO"}"#, "Invalid signal: SIGFOO"),
            (r#"{"Image":"a","HostConfig":{"ShmSize":-1}}"#, "SHM size can not be less than 0"),
            (r#"{"Image":"a","HostConfig":{"Dns":["x"]}}"#, "bad format for dns server: x"),
            (r#"{"Image":"a","HostConfig":{"ExtraHosts":["x"]}}"#, "bad format for add-host: \"x\""),
            (r#"{"Image":"a","HostConfig":{"ExtraHosts":["x:y"]}}"#, "invalid IP address in add-host: \"y\""),
            (r#"{"Image":"a","HostConfig":{"Runtime":"kata"}}"#, "unknown or invalid runtime name: kata"),
            (r#"{"Image":"a","HostConfig":{"Runtime":"crun"}}"#, "unknown or invalid runtime name: crun"),
            (
                r#"{"Image":"a","HostConfig":{"StorageOpt":{"size":"1G"}}}"#,
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ),
            (
                r#"{"Image":"a","HostConfig":{"Isolation":"foo"}}"#,
                "Invalid isolation: \"foo\" - linux only supports 'default'",
            ),
            (
                r#"{"Image":"a","Hostname":"h","HostConfig":{"NetworkMode":"container:x"}}"#,
                "conflicting options: hostname and the network mode",
            ),
            (
                r#"{"Image":"a","ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:x"}}"#,
                "conflicting options: port exposing and the container type network mode",
            ),
            (
                r#"{"Image":"a","HostConfig":{"NetworkMode":"host","Links":["a:b"]}}"#,
                "conflicting options: host type networking can't be used with links. This would result in undefined \
                 behavior",
            ),
            (
                r#"{"Image":"a","Hostname":"h","HostConfig":{"UTSMode":"host"}}"#,
                "conflicting options: hostname and the UTS mode",
            ),
            (
                r#"{"Image":"a","HostConfig":{"NetworkMode":"container:x","PublishAllPorts":true}}"#,
                "conflicting options: port publishing and the container type network mode",
            ),
        ] {
            assert_eq!(of(json).unwrap_err().to_string(), wanted, "{json}");
        }
    }
}
