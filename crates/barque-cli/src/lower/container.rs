//! `run` and `create`.

use barque_api::container::{ContainerConfig, ContainerCreateRequest, HostConfig, PortBinding, Resources};
use barque_api::json::{Empty, Set};

use super::{Inputs, network, options};
use crate::cmdline::Flags;
use crate::opts::volume::VolumeSpec;
use crate::opts::{self, device, env, gpu, limits, mount, names, port, volume};

/// What `run` and `create` ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    pub(crate) request: ContainerCreateRequest,
    /// The image as it was typed.
    pub(crate) image: String,
}

/// Turns flags and operands (`IMAGE [COMMAND] [ARG…]`) into a request.
pub(crate) fn launch(flags: &Flags, operands: &[String], inputs: &Inputs<'_>) -> Result<Launch, String> {
    let image = operands.first().cloned().unwrap_or_default();
    let mac = flags.text("mac-address");
    if !mac.is_empty() {
        names::mac_address(mac)?;
    }
    let (binds, anonymous) = volumes(flags, inputs)?;
    let (exposed, bindings) = ports(flags)?;
    let health = options::health(flags)?;
    let mut config = portable(flags, operands, inputs)?;
    config.volumes = Some(anonymous);
    config.exposed_ports = Some(exposed);
    config.healthcheck = health;
    let mut host = host_config(flags, inputs)?;
    host.binds = some(binds);
    host.port_bindings = Some(bindings);
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    let networking = network::endpoints(flags)?;
    if let Some(endpoint) =
        networking.endpoints_config.as_ref().and_then(|all| all.get(&host.network_mode)).and_then(Option::as_ref)
    {
        // Engines before 1.44 read it here.
        config.mac_address = endpoint.mac_address.clone();
    }
    let request = ContainerCreateRequest { config, host_config: Some(host), networking_config: Some(networking) };
    Ok(Launch { request, image })
}

/// Nothing rather than an empty list.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_owned).collect()
}

/// The part that does not depend on the host.
fn portable(flags: &Flags, operands: &[String], inputs: &Inputs<'_>) -> Result<ContainerConfig, String> {
    let attached: Vec<String> = flags.all("attach").into_iter().map(str::to_lowercase).collect();
    let attach = |name: &str| attached.iter().any(|a| a == name);
    let interactive = flags.is("interactive");
    let entrypoint = flags.get("entrypoint").map(|e| vec![e.to_owned()]);
    let mut config = ContainerConfig {
        hostname: flags.text("hostname").to_owned(),
        domainname: flags.text("domainname").to_owned(),
        user: flags.text("user").to_owned(),
        attach_stdin: attach("stdin") || interactive,
        attach_stdout: attached.is_empty() || attach("stdout"),
        attach_stderr: attached.is_empty() || attach("stderr"),
        tty: flags.is("tty"),
        open_stdin: interactive,
        env: some(variables(flags, inputs)?),
        cmd: some(operands.get(1..).unwrap_or_default().to_vec()),
        image: operands.first().cloned().unwrap_or_default(),
        working_dir: flags.text("workdir").to_owned(),
        entrypoint,
        mac_address: flags.text("mac-address").to_owned(),
        labels: Some(labels(flags, inputs)?),
        stop_signal: flags.text("stop-signal").to_owned(),
        stop_timeout: flags.int("stop-timeout"),
        ..ContainerConfig::default()
    };
    // Input of an attached container ends with the client's.
    config.stdin_once = config.open_stdin && config.attach_stdin;
    Ok(config)
}

/// `--env-file`, then proxies, then `-e`: later ones win.
fn variables(flags: &Flags, inputs: &Inputs<'_>) -> Result<Vec<String>, String> {
    let lookup = inputs.surroundings.variable;
    let mut found = Vec::new();
    for path in flags.all("env-file") {
        found.extend(env::file(path, &(inputs.read)(path)?, Some(lookup))?);
    }
    let given: Vec<String> = flags.all("env").iter().map(|e| env::resolve(e, lookup)).collect();
    let name = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
    for (key, value) in &inputs.proxies {
        if !given.iter().any(|e| name(e) == *key) {
            found.push(format!("{key}={value}"));
        }
    }
    found.extend(given);
    Ok(found)
}

fn labels(flags: &Flags, inputs: &Inputs<'_>) -> Result<std::collections::BTreeMap<String, String>, String> {
    let mut lines = Vec::new();
    for path in flags.all("label-file") {
        lines.extend(env::file(path, &(inputs.read)(path)?, None)?);
    }
    lines.extend(owned(flags.all("label")));
    Ok(opts::map(lines.iter().map(String::as_str)))
}

/// Binds and named volumes, and the paths of anonymous volumes.
fn volumes(flags: &Flags, inputs: &Inputs<'_>) -> Result<(Vec<String>, Set), String> {
    let (mut binds, mut anonymous) = (Vec::new(), Set::new());
    for text in flags.all("volume") {
        match volume::parse(text, &|path| inputs.surroundings.absolute(path))? {
            VolumeSpec::Anonymous(path) => {
                anonymous.insert(path, Empty);
            }
            VolumeSpec::Bind(bind) if binds.contains(&bind) => {}
            VolumeSpec::Bind(bind) => binds.push(bind),
        }
    }
    Ok((binds, anonymous))
}

/// Exposed ports, those published among them, and their bindings.
fn ports(flags: &Flags) -> Result<(Set, barque_api::container::PortMap), String> {
    let (mut exposed, mut bindings) = (Set::new(), barque_api::container::PortMap::new());
    for text in flags.all("publish") {
        for published in port::publish(text)? {
            exposed.insert(published.port.clone(), Empty);
            let binding = PortBinding { host_ip: published.host_ip, host_port: published.host_port };
            bindings.entry(published.port).or_default().get_or_insert_default().push(binding);
        }
    }
    for text in flags.all("expose") {
        exposed.extend(port::expose(text)?.into_iter().map(|port| (port, Empty)));
    }
    Ok((exposed, bindings))
}

fn host_config(flags: &Flags, inputs: &Inputs<'_>) -> Result<HostConfig, String> {
    let (security, systempaths) = options::security(&flags.all("security-opt"), inputs)?;
    let text = |name: &str| flags.text(name).to_owned();
    let list = |name: &str| some(owned(flags.all(name)));
    // These are never null for the engine.
    let full = |name: &str| Some(owned(flags.all(name)));
    let hosts: Result<Vec<String>, String> = flags.all("add-host").into_iter().map(names::extra_host).collect();
    let mounts: Result<Vec<_>, String> = {
        let absolute = |path: &str| inputs.surroundings.absolute(path);
        flags.all("mount").into_iter().map(|text| mount::parse(text, &absolute)).collect()
    };
    let unmasked = || systempaths.then(Vec::new);
    Ok(HostConfig {
        container_id_file: text("cidfile"),
        log_config: options::logging(flags)?,
        network_mode: network::mode(flags)?,
        restart_policy: options::restart(flags.text("restart"))?,
        auto_remove: flags.is("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: list("volumes-from"),
        annotations: Some(opts::map(flags.all("annotation"))),
        cap_add: some(opts::capabilities::normalized(&flags.all("cap-add"))),
        cap_drop: some(opts::capabilities::normalized(&flags.all("cap-drop"))),
        cgroupns_mode: options::one_of(
            flags.text("cgroupns"),
            &["", "private", "host"],
            "--cgroupns: invalid CGROUP mode",
        )?,
        dns: full("dns"),
        dns_options: Some(owned(flags.all_of(&["dns-option", "dns-opt"]))),
        dns_search: full("dns-search"),
        extra_hosts: some(hosts?),
        group_add: list("group-add"),
        ipc_mode: text("ipc"),
        links: list("link"),
        oom_score_adj: flags.int("oom-score-adj").unwrap_or(0),
        pid_mode: options::pid_mode(flags.text("pid"))?,
        privileged: flags.is("privileged"),
        publish_all_ports: flags.is("publish-all"),
        readonly_rootfs: flags.is("read-only"),
        security_opt: some(security),
        storage_opt: Some(options::storage(&flags.all("storage-opt"))?),
        tmpfs: Some(tmpfs(flags)),
        uts_mode: options::one_of(flags.text("uts"), &["", "host"], "--uts: invalid UTS mode")?,
        userns_mode: options::one_of(flags.text("userns"), &["", "host"], "--userns: invalid USER mode")?,
        shm_size: flags.bytes("shm-size").unwrap_or(0),
        sysctls: Some(opts::map(flags.all("sysctl"))),
        runtime: text("runtime"),
        isolation: text("isolation"),
        resources: resources(flags)?,
        mounts: some(mounts?),
        masked_paths: unmasked(),
        readonly_paths: unmasked(),
        init: flags.given("init").then(|| flags.is("init")),
        ..HostConfig::default()
    })
}

/// `--tmpfs PATH[:OPTIONS]`.
fn tmpfs(flags: &Flags) -> std::collections::BTreeMap<String, String> {
    let entry = |text: &str| match text.split_once(':') {
        Some((path, options)) => (path.to_owned(), options.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    flags.all("tmpfs").into_iter().map(entry).collect()
}

fn resources(flags: &Flags) -> Result<Resources, String> {
    let swappiness = flags.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let int = |name: &str| flags.int(name).unwrap_or(0);
    let bytes = |name: &str| flags.bytes(name).unwrap_or(0);
    let text = |name: &str| flags.text(name).to_owned();
    let rates = |name: &str, parse: fn(&str) -> Result<_, String>| {
        flags.all(name).into_iter().map(parse).collect::<Result<Vec<_>, String>>().map(Some)
    };
    let (devices, requests) = devices(flags)?;
    let weights: Result<Vec<_>, String> =
        flags.all("blkio-weight-device").into_iter().map(limits::weight_device).collect();
    Ok(Resources {
        cpu_shares: int("cpu-shares"),
        memory: bytes("memory"),
        nano_cpus: flags.get("cpus").and_then(|v| crate::cmdline::parse_cpus(v).ok()).unwrap_or(0),
        cgroup_parent: text("cgroup-parent"),
        blkio_weight: u16::try_from(int("blkio-weight")).unwrap_or(0),
        blkio_weight_device: Some(weights?),
        blkio_device_read_bps: rates("device-read-bps", limits::bps_device)?,
        blkio_device_write_bps: rates("device-write-bps", limits::bps_device)?,
        blkio_device_read_iops: rates("device-read-iops", limits::iops_device)?,
        blkio_device_write_iops: rates("device-write-iops", limits::iops_device)?,
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cpu_realtime_period: int("cpu-rt-period"),
        cpu_realtime_runtime: int("cpu-rt-runtime"),
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        devices: Some(devices),
        device_cgroup_rules: some(owned(flags.all("device-cgroup-rule"))),
        device_requests: some(requests),
        kernel_memory: bytes("kernel-memory"),
        memory_reservation: bytes("memory-reservation"),
        memory_swap: bytes("memory-swap"),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(flags.is("oom-kill-disable")),
        pids_limit: Some(int("pids-limit")),
        ulimits: Some(limits::ulimits(&flags.all("ulimit"))?),
        cpu_count: int("cpu-count"),
        cpu_percent: int("cpu-percent"),
        io_maximum_iops: u64::try_from(int("io-maxiops")).unwrap_or(0),
        io_maximum_bandwidth: u64::try_from(bytes("io-maxbandwidth")).unwrap_or(0),
        ..Resources::default()
    })
}

type Devices = (Vec<barque_api::container::DeviceMapping>, Vec<barque_api::container::DeviceRequest>);

/// Devices by path; GPUs and devices of the Container Device Interface are requests.
fn devices(flags: &Flags) -> Result<Devices, String> {
    let requests: Result<Vec<_>, String> = flags.all("gpus").into_iter().map(gpu::parse).collect();
    let mut requests = requests?;
    let (cdi, paths): (Vec<&str>, Vec<&str>) = flags.all("device").into_iter().partition(|d| device::is_cdi(d));
    if !cdi.is_empty() {
        requests.push(barque_api::container::DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(owned(cdi)),
            ..Default::default()
        });
    }
    let mapped: Result<Vec<_>, String> = paths.into_iter().map(device::parse).collect();
    Ok((mapped?, requests))
}
