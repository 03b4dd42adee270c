//! `GET /containers/{id}/json`: the engine's view to the wire document.

use std::collections::BTreeMap;

use barque_api::ApiVersion;
use barque_api::container::{Address, ContainerConfig, ContainerInspect, ContainerState, DriverData, NetworkSettings};
use barque_api::json::Set;
use barque_api::network::EndpointSettings;
use barque_engine::container::spec::MountSource;
use barque_engine::container::state::State;
use barque_engine::container::view::ContainerView;
use barque_model::Timestamp;
use barque_model::path::rooted;

use super::document::Document;
use super::{endpoint, health, mounts, ports};

/// Everything about one container, as clients of `version` expect it.
pub(crate) fn container(view: &ContainerView, sizes: Option<(u64, u64)>, version: ApiVersion) -> ContainerInspect {
    let document = Document::parse(&view.document);
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let config = config(view, &document);
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (path, args) =
        view.argv.split_first().map_or((String::new(), Vec::new()), |(path, args)| (path.clone(), args.to_vec()));
    let mut host = document.host;
    host.container_id_file.clear();
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created_at.to_string(),
        path,
        args,
        state: state(view),
        image: view.spec.image_id.map(|id| id.to_string()).unwrap_or_default(),
        resolv_conf_path: text(&view.resolv_conf_path),
        hostname_path: text(&view.hostname_path),
        hosts_path: text(&view.hosts_path),
        log_path: if host.log_config.kind == "json-file" { text(&view.log_path) } else { String::new() },
        name: format!("/{}", view.name),
        restart_count: i64::from(view.restart_count),
        driver: "overlay2".into(),
        platform: view.platform.clone(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: view.spec.security.apparmor.clone().unwrap_or_default(),
        exec_ids: super::listed(view.exec_ids.iter().map(ToString::to_string).collect()),
        graph_driver: Some(graph_driver(view)),
        storage: None,
        size_rw: sizes.map(|(rw, _)| signed(rw)),
        size_root_fs: sizes.map(|(_, root)| signed(root)),
        mounts: mounts::points(&view.mounts, &host),
        host_config: host,
        config,
        network_settings: network_settings(view, version),
        image_manifest_descriptor: None,
    }
}

/// The client's configuration with what the image added.
fn config(view: &ContainerView, document: &Document) -> ContainerConfig {
    let (spec, own) = (&view.spec, &document.config);
    ContainerConfig {
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        user: spec.process.user.clone(),
        exposed_ports: ports::exposed_set(&spec.exposed_ports),
        env: Some(spec.process.env.clone()),
        cmd: spec.process.cmd.clone().filter(|words| !words.is_empty()),
        healthcheck: spec.healthcheck.as_ref().map(health::wire),
        volumes: declared_volumes(view, document),
        working_dir: spec.process.working_dir.clone(),
        entrypoint: spec.process.entrypoint.clone().filter(|words| words.iter().any(|word| !word.is_empty())),
        labels: Some(spec.labels.clone()),
        stop_signal: match (own.stop_signal.as_str(), spec.stop_signal) {
            ("", Some(signal)) => signal.to_string(),
            (text, _) => text.to_owned(),
        },
        shell: spec.process.shell.clone(),
        ..own.clone()
    }
}

/// The `Volumes` of the request and of the image, which are anonymous.
fn declared_volumes(view: &ContainerView, document: &Document) -> Option<Set> {
    let long_forms: Vec<String> = document.host.mounts.iter().flatten().map(|mount| rooted(&mount.target)).collect();
    let mut set = document.config.volumes.clone().unwrap_or_default();
    for target in &view.spec.image_volumes {
        if !set.keys().any(|have| rooted(have) == rooted(target)) {
            set.insert(target.clone(), barque_api::Empty);
        }
    }
    for mount in &view.spec.mounts {
        let anonymous = matches!(mount.source, MountSource::Volume { anonymous: true, .. });
        let target = rooted(&mount.target);
        if anonymous && !long_forms.contains(&target) && !set.keys().any(|have| rooted(have) == target) {
            set.insert(target, barque_api::Empty);
        }
    }
    Some(set).filter(|set| !set.is_empty())
}

/// Docker's booleans, from the one state.
pub(crate) fn state(view: &ContainerView) -> ContainerState {
    let exit = view.state.last_exit();
    let running = view.state.running();
    let restarting = matches!(view.state, State::Restarting { .. });
    let mut state = ContainerState {
        status: view.state.status().to_owned(),
        running: running.is_some() || restarting,
        paused: running.is_some_and(|running| running.paused),
        restarting,
        oom_killed: exit.is_some_and(|exit| exit.oom_killed),
        dead: matches!(view.state, State::Dead { .. }),
        pid: running.map_or(0, |running| i64::from(running.pid)),
        exit_code: exit.map_or(0, |exit| i64::from(exit.code)),
        error: view.error.clone().unwrap_or_default(),
        started_at: Timestamp::or_zero(exit.and_then(|exit| exit.started_at)),
        finished_at: Timestamp::or_zero(exit.map(|exit| exit.finished_at)),
        health: view.health.as_ref().map(health::results),
    };
    match &view.state {
        State::Running(running) => state.started_at = running.started_at.to_string(),
        State::Created { error: Some(failure) } => {
            state.exit_code = i64::from(failure.code);
            state.error.clone_from(&failure.message);
        }
        State::Dead { why } if state.error.is_empty() => state.error.clone_from(why),
        _ => {}
    }
    state
}

fn graph_driver(view: &ContainerView) -> DriverData {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let lower: Vec<String> = view.layers.iter().map(|path| text(path)).collect();
    let merged = view.upper.parent().map(|dir| text(&dir.join("merged"))).unwrap_or_default();
    let data = [
        ("ID", view.id.to_string()),
        ("LowerDir", lower.join(":")),
        ("MergedDir", merged),
        ("UpperDir", text(&view.upper)),
        ("WorkDir", text(&view.work)),
    ];
    let data: BTreeMap<String, String> = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    DriverData { data: Some(data), name: "overlay2".into() }
}

fn network_settings(view: &ContainerView, version: ApiVersion) -> NetworkSettings {
    let pid = view.state.running().map(|running| running.pid);
    let networks = endpoint::networks(view, version);
    let shares_host = view.endpoints.iter().any(|endpoint| endpoint.network_name == "host");
    let mut settings = NetworkSettings {
        sandbox_id: pid.map(|_| view.id.to_string()).unwrap_or_default(),
        sandbox_key: match pid {
            Some(_) if shares_host => "/proc/1/ns/net".into(),
            Some(pid) => format!("/proc/{pid}/ns/net"),
            None => String::new(),
        },
        ports: Some(ports::in_force(view)),
        ..NetworkSettings::default()
    };
    if version.before(52) {
        legacy_fields(&mut settings, networks.get("bridge"));
    }
    settings.networks = networks;
    settings
}

/// The fields of the default network, which were at the top until 1.51.
fn legacy_fields(settings: &mut NetworkSettings, bridge: Option<&Option<EndpointSettings>>) {
    let bridge = bridge.cloned().flatten().unwrap_or_default();
    settings.bridge = Some(String::new());
    settings.hairpin_mode = Some(false);
    settings.link_local_ipv6_address = Some(String::new());
    settings.link_local_ipv6_prefix_len = Some(0);
    settings.secondary_ip_addresses = Some(None::<Vec<Address>>);
    settings.secondary_ipv6_addresses = Some(None);
    settings.endpoint_id = Some(bridge.endpoint_id);
    settings.gateway = Some(bridge.gateway);
    settings.global_ipv6_address = Some(bridge.global_ipv6_address);
    settings.global_ipv6_prefix_len = Some(bridge.global_ipv6_prefix_len);
    settings.ip_address = Some(bridge.ip_address);
    settings.ip_prefix_len = Some(bridge.ip_prefix_len);
    settings.ipv6_gateway = Some(bridge.ipv6_gateway);
    settings.mac_address = Some(bridge.mac_address);
}
