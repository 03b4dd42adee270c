//! The typed project: what the rest of the crate works with.
//!
//! Every type is read from the JSON of the long form, in which each value has exactly one shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Names with text.
pub type Texts = BTreeMap<String, String>;
/// Names with text or nothing.
pub type MaybeTexts = BTreeMap<String, Option<String>>;

/// Sizes are rendered as text; this reads them back as bytes.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Number(n) => Ok(n.as_i64().unwrap_or_default()),
        Value::String(s) => super::units::bytes(&s).map_err(serde::de::Error::custom),
        _ => Ok(0),
    }
}

/// Durations are rendered as text; this reads them back as nanoseconds.
fn nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(s) => super::units::duration(&s).map(Some).map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(s) => super::units::octal(&s).map(|n| u32::try_from(n).ok()).map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

/// A service as the file defines it. The keys are those of the Compose specification.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    pub profiles: Vec<String>,
    pub annotations: Texts,
    pub attach: Option<bool>,
    pub build: Option<Build>,
    pub blkio_config: Option<Blkio>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub cgroup_parent: String,
    pub cgroup: String,
    pub cpu_count: i64,
    pub cpu_percent: f64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_rt_period: i64,
    pub cpu_rt_runtime: i64,
    pub cpus: f64,
    pub cpuset: String,
    pub cpu_shares: i64,
    pub command: Option<Vec<String>>,
    pub configs: Vec<FileMount>,
    pub container_name: String,
    pub depends_on: BTreeMap<String, Dependency>,
    pub deploy: Option<Deploy>,
    pub device_cgroup_rules: Vec<String>,
    pub devices: Vec<Device>,
    pub dns: Vec<String>,
    pub dns_opt: Vec<String>,
    pub dns_search: Vec<String>,
    pub domainname: String,
    pub entrypoint: Option<Vec<String>>,
    pub provider: Option<Value>,
    pub environment: MaybeTexts,
    pub env_file: Vec<EnvFile>,
    pub expose: Vec<String>,
    pub external_links: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub group_add: Vec<String>,
    pub gpus: Vec<DeviceRequest>,
    pub hostname: String,
    pub healthcheck: Option<Healthcheck>,
    pub image: String,
    pub init: Option<bool>,
    pub ipc: String,
    pub isolation: String,
    pub labels: Texts,
    pub label_file: Vec<String>,
    pub links: Vec<String>,
    pub logging: Option<Logging>,
    #[serde(deserialize_with = "bytes")]
    pub mem_limit: i64,
    #[serde(deserialize_with = "bytes")]
    pub mem_reservation: i64,
    #[serde(deserialize_with = "bytes")]
    pub memswap_limit: i64,
    #[serde(deserialize_with = "bytes")]
    pub mem_swappiness: i64,
    pub mac_address: String,
    pub models: BTreeMap<String, Value>,
    pub network_mode: String,
    pub networks: BTreeMap<String, Option<ServiceNetwork>>,
    pub oom_kill_disable: bool,
    pub oom_score_adj: i64,
    pub pid: String,
    pub pids_limit: i64,
    pub platform: String,
    pub ports: Vec<Port>,
    pub privileged: bool,
    pub pull_policy: String,
    pub pull_refresh_after: String,
    pub read_only: bool,
    pub restart: String,
    pub runtime: String,
    pub scale: Option<i64>,
    pub secrets: Vec<FileMount>,
    pub security_opt: Vec<String>,
    #[serde(deserialize_with = "bytes")]
    pub shm_size: i64,
    pub stdin_open: bool,
    #[serde(deserialize_with = "nanos")]
    pub stop_grace_period: Option<i64>,
    pub stop_signal: String,
    pub storage_opt: Texts,
    pub sysctls: Texts,
    pub tmpfs: Vec<String>,
    pub tty: bool,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub use_api_socket: bool,
    pub user: String,
    pub userns_mode: String,
    pub uts: String,
    pub volumes: Vec<Mount>,
    pub volumes_from: Vec<String>,
    pub working_dir: String,
    pub pre_start: Vec<Hook>,
    pub post_start: Vec<Hook>,
    pub pre_stop: Vec<Hook>,
    pub develop: Option<Develop>,
}

/// `develop`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Develop {
    pub watch: Vec<WatchRule>,
}

/// What is done when files change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum WatchAction {
    #[default]
    #[serde(rename = "rebuild")]
    Rebuild,
    #[serde(rename = "sync")]
    Sync,
    #[serde(rename = "restart")]
    Restart,
    #[serde(rename = "sync+restart")]
    SyncRestart,
    #[serde(rename = "sync+exec")]
    SyncExec,
}

/// One entry of `develop.watch`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchRule {
    /// File or directory of this machine, absolute.
    pub path: String,
    pub action: WatchAction,
    /// Where it is in the container.
    pub target: String,
    pub exec: Hook,
    /// Only these files below `path`; all if empty.
    pub include: Vec<String>,
    /// But not these.
    pub ignore: Vec<String>,
    /// Copy everything once before watching.
    pub initial_sync: bool,
}

/// `build`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Build {
    pub context: String,
    pub dockerfile: String,
    pub dockerfile_inline: String,
    pub entitlements: Vec<String>,
    pub args: MaybeTexts,
    pub ssh: Vec<String>,
    pub labels: Texts,
    pub cache_from: Vec<String>,
    pub cache_to: Vec<String>,
    pub no_cache: bool,
    pub no_cache_filter: Vec<String>,
    pub additional_contexts: Texts,
    pub pull: bool,
    pub extra_hosts: Vec<String>,
    pub isolation: String,
    pub network: String,
    pub target: String,
    pub secrets: Vec<FileMount>,
    #[serde(deserialize_with = "bytes")]
    pub shm_size: i64,
    pub tags: Vec<String>,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub platforms: Vec<String>,
    pub privileged: bool,
    /// A text or a truth value.
    pub provenance: Option<Value>,
    /// A text or a truth value.
    pub sbom: Option<Value>,
}

/// `blkio_config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Blkio {
    pub weight: u16,
    pub weight_device: Vec<BlkioWeight>,
    pub device_read_bps: Vec<BlkioRate>,
    pub device_read_iops: Vec<BlkioRate>,
    pub device_write_bps: Vec<BlkioRate>,
    pub device_write_iops: Vec<BlkioRate>,
}

/// Weight of a device.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BlkioWeight {
    /// The device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// Rate of a device.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BlkioRate {
    /// The device.
    pub path: String,
    /// Bytes or operations per second.
    #[serde(deserialize_with = "bytes")]
    pub rate: i64,
}

/// A secret or config given to a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileMount {
    /// Key at the top level.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Owner.
    pub uid: String,
    /// Group.
    pub gid: String,
    /// Permissions.
    #[serde(deserialize_with = "mode")]
    pub mode: Option<u32>,
}

/// What a service waits for in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Condition {
    /// It was started.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its healthcheck succeeds.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with exit status 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

impl Condition {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Started => "service_started",
            Condition::Healthy => "service_healthy",
            Condition::Completed => "service_completed_successfully",
        }
    }
}

/// One entry of `depends_on`.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// What to wait for.
    #[serde(default)]
    pub condition: Condition,
    /// Restart this service when Compose restarts that one.
    #[serde(default)]
    pub restart: bool,
    /// False: go on without it.
    #[serde(default)]
    pub required: bool,
}

/// `deploy`, as far as one machine can do it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deploy {
    pub mode: String,
    pub replicas: Option<i64>,
    pub labels: Texts,
    pub resources: Resources,
    pub restart_policy: Option<RestartPolicy>,
}

/// `deploy.resources`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub limits: Option<Resource>,
    pub reservations: Option<Resource>,
}

/// Limits or reservations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resource {
    pub cpus: f64,
    #[serde(deserialize_with = "bytes")]
    pub memory: i64,
    pub pids: i64,
    pub devices: Vec<DeviceRequest>,
}

/// `deploy.restart_policy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `none`, `on-failure` or `any`.
    pub condition: String,
    /// At most so many.
    pub max_attempts: Option<i64>,
}

/// A device given to a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Device {
    pub source: String,
    pub target: String,
    pub permissions: String,
}

/// A device asked of a driver.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    pub capabilities: Vec<String>,
    pub driver: String,
    pub count: i64,
    pub device_ids: Vec<String>,
    pub options: Texts,
}

/// One `env_file`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EnvFile {
    /// Where it is.
    pub path: String,
    /// False: skip it if missing.
    pub required: bool,
    /// `raw`, or empty for the usual format.
    pub format: String,
}

/// `healthcheck`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    pub test: Vec<String>,
    #[serde(deserialize_with = "nanos")]
    pub timeout: Option<i64>,
    #[serde(deserialize_with = "nanos")]
    pub interval: Option<i64>,
    pub retries: Option<i64>,
    #[serde(deserialize_with = "nanos")]
    pub start_period: Option<i64>,
    #[serde(deserialize_with = "nanos")]
    pub start_interval: Option<i64>,
    pub disable: bool,
}

/// `logging`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Logging {
    pub driver: String,
    pub options: Texts,
}

/// A service in a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceNetwork {
    pub aliases: Vec<String>,
    pub driver_opts: Texts,
    pub gw_priority: i64,
    pub interface_name: String,
    pub ipv4_address: String,
    pub ipv6_address: String,
    pub link_local_ips: Vec<String>,
    pub mac_address: String,
    pub priority: i64,
}

/// A port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    pub name: String,
    pub mode: String,
    pub host_ip: String,
    pub target: u16,
    pub published: String,
    pub protocol: String,
}

/// A limit of a resource.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Ulimit {
    /// The same for both.
    Single(i64),
    /// Soft and hard.
    Both {
        /// Soft.
        #[serde(default)]
        soft: i64,
        /// Hard.
        #[serde(default)]
        hard: i64,
    },
}

/// A mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Mount {
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    pub consistency: String,
    pub bind: Option<MountBind>,
    pub volume: Option<MountVolume>,
    pub tmpfs: Option<MountTmpfs>,
    pub image: Option<MountImage>,
}

/// Options of a bind mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MountBind {
    pub selinux: String,
    pub propagation: String,
    pub create_host_path: bool,
    pub recursive: String,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MountVolume {
    pub labels: Texts,
    pub nocopy: bool,
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MountTmpfs {
    #[serde(deserialize_with = "bytes")]
    pub size: i64,
    pub mode: u32,
}

/// Options of an image mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MountImage {
    /// Path inside the image.
    pub subpath: String,
}

/// A command run at a point of a container's life.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hook {
    pub command: Option<Vec<String>>,
    pub image: String,
    pub user: String,
    pub privileged: bool,
    pub working_dir: String,
    pub environment: MaybeTexts,
    pub per_replica: bool,
}

/// A network of the project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    pub name: String,
    pub driver: String,
    pub driver_opts: Texts,
    pub ipam: Ipam,
    pub external: bool,
    pub internal: bool,
    pub attachable: bool,
    pub labels: Texts,
    pub enable_ipv4: Option<bool>,
    pub enable_ipv6: Option<bool>,
}

/// Address management of a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ipam {
    pub driver: String,
    pub config: Vec<IpamPool>,
    pub options: Texts,
}

/// A pool of addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    pub subnet: String,
    pub gateway: String,
    pub ip_range: String,
    pub aux_addresses: Texts,
}

/// A volume of the project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub driver_opts: Texts,
    pub external: bool,
    pub labels: Texts,
}

/// A secret or config of the project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileObject {
    pub name: String,
    pub file: String,
    pub environment: String,
    pub content: String,
    pub external: bool,
    pub labels: Texts,
    pub driver: String,
    pub driver_opts: Texts,
    pub template_driver: String,
}
