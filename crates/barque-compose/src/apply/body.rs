//! A service → the request that makes its container.

use std::collections::BTreeMap;

use barque_api::ApiVersion;
use barque_api::container::{
    ContainerConfig, ContainerCreateRequest, HealthConfig, HostConfig, LogConfig, RestartPolicy,
};
use barque_client::Error;
use barque_model::Error as ModelError;

use super::{body_mounts, body_network, body_resources};
use crate::file::hash;
use crate::file::model::{Healthcheck, ServiceSpec};
use crate::file::project::{Project, Service};
use crate::plan::labels;
use crate::plan::observed::{Container, Image, Observed};
use crate::plan::reconcile::{hash_form, resolved};

/// What a request is made of besides the service itself.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// The project.
    pub project: &'a Project,
    /// The service.
    pub service: &'a Service,
    /// What the engine has.
    pub observed: &'a Observed,
    /// The image, if known.
    pub image: Option<&'a Image>,
    /// The number, 0 for `run`.
    pub number: usize,
    /// The container's name.
    pub name: &'a str,
    /// The container it replaces, whose anonymous volumes it takes over.
    pub inherit: Option<&'a Container>,
    /// False: only the container's own name is an alias in its networks.
    pub aliases: bool,
    /// Version written into the labels.
    pub version: &'a str,
    /// API version spoken.
    pub api: ApiVersion,
}

/// The request, and the networks to connect to afterwards if the engine takes only one at first.
#[derive(Debug)]
pub struct Body {
    /// The request.
    pub request: ContainerCreateRequest,
    /// Further networks: name and settings.
    pub later: Vec<(String, barque_api::network::EndpointSettings)>,
}

/// Makes the request.
///
/// # Errors
/// A file that cannot be read (seccomp profile), or what the engine could not do.
pub fn make(making: &Making<'_>) -> Result<Body, ModelError> {
    let Making { project, service, .. } = making;
    let spec = &service.spec;
    let (exposed, bindings) = body_network::ports(spec)?;
    let (binds, mounts) = body_mounts::mounts(making)?;
    let (security, unconfined) = body_resources::security(spec, project)?;
    let networking = body_network::networking(making)?;
    let config = config(making, exposed);
    let tmpfs =
        spec.tmpfs.iter().map(|t| t.split_once(':').unwrap_or((t, ""))).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let host = HostConfig {
        binds: some(binds),
        mounts: some(mounts),
        annotations: some(spec.annotations.clone()),
        cap_add: some(spec.cap_add.clone()),
        cap_drop: some(spec.cap_drop.clone()),
        network_mode: networking.mode,
        init: spec.init,
        ipc_mode: shared(&spec.ipc, making),
        pid_mode: shared(&spec.pid, making),
        uts_mode: spec.uts.clone(),
        userns_mode: spec.userns_mode.clone(),
        cgroupns_mode: spec.cgroup.clone(),
        readonly_rootfs: spec.read_only,
        restart_policy: restart_policy(spec),
        shm_size: spec.shm_size,
        sysctls: some(spec.sysctls.clone()),
        port_bindings: some(bindings),
        resources: body_resources::resources(spec),
        volumes_from: some(volumes_from(making)),
        dns: some(spec.dns.clone()),
        dns_search: some(spec.dns_search.clone()),
        dns_options: some(spec.dns_opt.clone()),
        extra_hosts: some(spec.extra_hosts.iter().map(|h| h.replacen('=', ":", 1)).collect()),
        security_opt: some(security),
        storage_opt: some(spec.storage_opt.clone()),
        privileged: spec.privileged,
        tmpfs: some(tmpfs.collect::<BTreeMap<_, _>>()),
        isolation: spec.isolation.clone(),
        runtime: spec.runtime.clone(),
        log_config: log_config(spec),
        group_add: some(spec.group_add.clone()),
        links: some(networking.links),
        oom_score_adj: spec.oom_score_adj,
        masked_paths: unconfined.then(Vec::new),
        readonly_paths: unconfined.then(Vec::new),
        ..HostConfig::default()
    };
    let request = ContainerCreateRequest { config, host_config: Some(host), networking_config: networking.config };
    Ok(Body { request, later: networking.later })
}

/// The part of the request that does not depend on the host.
fn config(making: &Making<'_>, exposed: barque_api::json::Set) -> ContainerConfig {
    let spec = &making.service.spec;
    ContainerConfig {
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        user: spec.user.clone(),
        exposed_ports: some(exposed),
        tty: spec.tty,
        open_stdin: spec.stdin_open,
        attach_stdout: true,
        attach_stderr: true,
        env: some(environment(spec)),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
        image: making.service.image(&making.project.name),
        working_dir: spec.working_dir.clone(),
        labels: Some(labels_of(making)),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_grace_period.map(|n| (n + 999_999_999) / 1_000_000_000),
        mac_address: if making.api.before(44) { spec.mac_address.clone() } else { String::new() },
        ..ContainerConfig::default()
    }
}

/// Empty lists and mappings are not sent, so that the engine applies its defaults.
fn some<T: IsEmpty>(value: T) -> Option<T> {
    (!value.is_empty()).then_some(value)
}

trait IsEmpty {
    fn is_empty(&self) -> bool;
}

impl<T> IsEmpty for Vec<T> {
    fn is_empty(&self) -> bool {
        Vec::is_empty(self)
    }
}

impl<K, V> IsEmpty for BTreeMap<K, V> {
    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
}

/// `K=v`, or `K` alone to take the image's value away.
fn environment(spec: &ServiceSpec) -> Vec<String> {
    spec.environment.iter().map(|(k, v)| v.as_ref().map_or_else(|| k.clone(), |v| format!("{k}={v}"))).collect()
}

fn healthcheck(check: &Healthcheck) -> HealthConfig {
    let test = if check.disable { vec!["NONE".to_owned()] } else { check.test.clone() };
    HealthConfig {
        test: some(test),
        interval: check.interval.unwrap_or(0),
        timeout: check.timeout.unwrap_or(0),
        start_period: check.start_period.unwrap_or(0),
        start_interval: check.start_interval.unwrap_or(0),
        retries: check.retries.unwrap_or(0),
    }
}

fn log_config(spec: &ServiceSpec) -> LogConfig {
    match &spec.logging {
        Some(logging) => LogConfig { kind: logging.driver.clone(), config: some(logging.options.clone()) },
        None => LogConfig::default(),
    }
}

fn restart_policy(spec: &ServiceSpec) -> RestartPolicy {
    let named = |condition: &str, attempts: i64| {
        let name = match condition {
            "none" | "no" => "no",
            "any" | "always" => "always",
            other => other,
        };
        RestartPolicy { name: name.to_owned(), maximum_retry_count: attempts }
    };
    if let Some(policy) = spec.deploy.as_ref().and_then(|d| d.restart_policy.as_ref()) {
        return named(&policy.condition, policy.max_attempts.unwrap_or(0));
    }
    let (condition, attempts) = spec.restart.split_once(':').unwrap_or((&spec.restart, ""));
    if condition.is_empty() { RestartPolicy::default() } else { named(condition, attempts.parse().unwrap_or(0)) }
}

/// `service:x` → `container:ID`.
pub(super) fn shared(mode: &str, making: &Making<'_>) -> String {
    match mode.strip_prefix("service:") {
        Some(name) => match making.observed.of_service(name).first() {
            Some(container) => format!("container:{}", container.id),
            None => mode.to_owned(),
        },
        None => mode.to_owned(),
    }
}

fn volumes_from(making: &Making<'_>) -> Vec<String> {
    let resolve = |text: &String| {
        if let Some(rest) = text.strip_prefix("container:") {
            return rest.to_owned();
        }
        let (name, mode) = text.split_once(':').map_or((text.as_str(), None), |(name, mode)| (name, Some(mode)));
        let id = making.observed.of_service(name).first().map_or_else(|| name.to_owned(), |c| c.id.clone());
        mode.map_or_else(|| id.clone(), |mode| format!("{id}:{mode}"))
    };
    making.service.spec.volumes_from.iter().map(resolve).collect()
}

/// The service's labels and those Compose knows its containers by.
fn labels_of(making: &Making<'_>) -> BTreeMap<String, String> {
    let Making { project, service, .. } = making;
    let mut out = service.spec.labels.clone();
    let json = resolved(service, making.observed);
    let depends: Vec<String> = service
        .spec
        .depends_on
        .iter()
        .map(|(name, d)| format!("{name}:{}:{}", d.condition.as_str(), d.restart))
        .collect();
    let files: Vec<String> = project.files.iter().map(|f| f.display().to_string()).collect();
    let mut set = |key: &str, value: String| {
        out.insert(key.to_owned(), value);
    };
    set(labels::PROJECT, project.name.clone());
    set(labels::SERVICE, service.name.clone());
    set(labels::VERSION, making.version.to_owned());
    set(labels::WORKING_DIR, project.working_dir.display().to_string());
    set(labels::CONFIG_FILES, files.join(","));
    set(labels::DEPENDS, depends.join(","));
    set(labels::HASH, hash::service(&json, hash_form(project, making.observed)));
    set(labels::IMAGE, making.image.map(|i| i.id.clone()).unwrap_or_default());
    set(labels::ONEOFF, if making.number == 0 { "True" } else { "False" }.to_owned());
    if making.number > 0 {
        set(labels::NUMBER, making.number.to_string());
        set(labels::CONFIG, crate::file::gojson::to_string(&hash::hashed(&json, hash::Form::V5)));
    }
    if !project.env_files.is_empty() {
        let files: Vec<String> = project.env_files.iter().map(|f| f.display().to_string()).collect();
        set(labels::ENVIRONMENT_FILE, files.join(","));
    }
    out
}

/// An engine's error as one of ours.
pub fn model_error(error: &Error) -> ModelError {
    ModelError::new(error.kind(), error.for_user())
}
