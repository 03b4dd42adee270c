//! The wire document kept with a container: what the client sent, with Docker's defaults filled in.

use barque_api::container::{ContainerConfig, HostConfig};
use serde::{Deserialize, Serialize};

use crate::config::Settings;

/// Bytes of `/dev/shm`.
const SHM_SIZE: i64 = 64 << 20;

/// Paths that containers cannot look into, unless they are privileged.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that containers cannot write, unless they are privileged.
const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Kept as text by the engine, shown again by `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    pub(crate) config: ContainerConfig,
    pub(crate) host: HostConfig,
}

impl Document {
    /// Reads what the engine kept; a document of another front end gives the defaults.
    pub(crate) fn parse(text: &str) -> Document {
        barque_api::json::from_str(text).unwrap_or_default()
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Fills in what Docker fills in when a container is created.
pub(crate) fn with_defaults(mut host: HostConfig, settings: &Settings, cgroup_v2: bool) -> HostConfig {
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    if host.log_config.kind.is_empty() {
        host.log_config.kind = settings.log_driver.clone().unwrap_or_else(|| "json-file".into());
        let own = host.log_config.config.take().unwrap_or_default();
        let mut options = settings.log_opts.clone();
        options.extend(own);
        host.log_config.config = Some(options);
    }
    host.log_config.config.get_or_insert_default();
    host.port_bindings.get_or_insert_default();
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = settings.ipc_mode.clone().unwrap_or_else(|| "private".into());
    }
    if host.cgroupns_mode.is_empty() {
        let private = cgroup_v2 && !host.privileged;
        let default = if private { "private" } else { "host" };
        host.cgroupns_mode = settings.cgroupns_mode.clone().unwrap_or_else(|| default.into());
    }
    if host.shm_size == 0 && !matches!(host.ipc_mode.as_str(), "none") {
        host.shm_size = settings.shm_size.and_then(|size| i64::try_from(size).ok()).unwrap_or(SHM_SIZE);
    }
    if host.runtime.is_empty() {
        host.runtime = settings.default_runtime.clone().unwrap_or_else(|| "runc".into());
    }
    let paths = |list: &[&str]| Some(list.iter().map(|path| (*path).to_owned()).collect());
    if host.masked_paths.is_none() && !host.privileged {
        host.masked_paths = paths(MASKED_PATHS);
    }
    if host.readonly_paths.is_none() && !host.privileged {
        host.readonly_paths = paths(READONLY_PATHS);
    }
    for list in [&mut host.dns, &mut host.dns_options, &mut host.dns_search] {
        list.get_or_insert_default();
    }
    let limits = &mut host.resources;
    if limits.memory > 0 && limits.memory_swap == 0 {
        limits.memory_swap = limits.memory.saturating_mul(2);
    }
    // Docker says `null` for no value and for -1 alike.
    limits.memory_swappiness = limits.memory_swappiness.filter(|value| *value != -1);
    limits.pids_limit = limits.pids_limit.filter(|value| *value > 0);
    limits.devices.get_or_insert_default();
    limits.ulimits.get_or_insert_default();
    limits.blkio_weight_device.get_or_insert_default();
    for list in [
        &mut limits.blkio_device_read_bps,
        &mut limits.blkio_device_write_bps,
        &mut limits.blkio_device_read_iops,
        &mut limits.blkio_device_write_iops,
    ] {
        list.get_or_insert_default();
    }
    host
}

#[cfg(test)]
mod tests {
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
        merge(&Values::default(), Some(r#"{"log-opts":{"max-size":"1m"}}"#), &defaults).unwrap()
    }

    #[test]
    fn dockers_defaults() {
        let mut host = HostConfig::default();
        host.resources.memory = 100;
        let host = with_defaults(host, &settings(), true);
        assert_eq!(
            (host.log_config.kind.as_str(), host.shm_size, host.ipc_mode.as_str()),
            ("json-file", 64 << 20, "private")
        );
        assert_eq!((host.cgroupns_mode.as_str(), host.runtime.as_str()), ("private", "runc"));
        assert_eq!(host.log_config.config.unwrap()["max-size"], "1m");
        assert_eq!(host.resources.memory_swap, 200);
        assert_eq!(host.masked_paths.unwrap().len(), MASKED_PATHS.len());
    }

    #[test]
    fn privileged_masks_nothing() {
        let host = with_defaults(HostConfig { privileged: true, ..Default::default() }, &settings(), true);
        assert_eq!((host.masked_paths, host.cgroupns_mode.as_str()), (None, "host"));
    }

    #[test]
    fn text_round_trip() {
        let mut document = Document::default();
        document.config.image = "a".into();
        document.host.resources.memory = 5;
        assert_eq!(Document::parse(&document.to_text()), document);
        assert_eq!(Document::parse("rubbish"), Document::default());
    }
}
