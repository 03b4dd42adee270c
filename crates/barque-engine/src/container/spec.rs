//! What a container is to be: the typed, persisted definition. The front end converts its wire
//! documents to and from this; `serde` here is the format of the database row.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use barque_model::{Error, IdMap, ImageId, Result, Signal};
use serde::{Deserialize, Serialize};

/// The definition of a container after merging the image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image's name as the user wrote it.
    pub image_ref: String,
    pub image_id: Option<ImageId>,
    pub process: ProcessSpec,
    pub labels: BTreeMap<String, String>,
    pub hostname: String,
    pub domainname: String,
    pub stop_signal: Option<Signal>,
    pub stop_timeout_secs: Option<i64>,
    pub healthcheck: Option<HealthSpec>,
    pub exposed_ports: Vec<PortProto>,
    pub mounts: Vec<MountSpec>,
    /// The image's `VOLUME`s, be something else mounted there or not.
    pub image_volumes: Vec<String>,
    /// `container[:ro|rw]` whose mounts are taken over.
    pub volumes_from: Vec<String>,
    pub network: NetworkSpec,
    pub restart: RestartPolicy,
    pub auto_remove: bool,
    pub security: SecuritySpec,
    pub namespaces: NamespaceSpec,
    pub resources: Resources,
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    pub sysctls: BTreeMap<String, String>,
    pub devices: Vec<DeviceSpec>,
    pub device_cgroup_rules: Vec<String>,
    pub init: Option<bool>,
    pub log: Option<LogSpec>,
    pub read_only: bool,
    pub annotations: BTreeMap<String, String>,
    pub cgroup_parent: Option<String>,
    pub runtime: Option<String>,
}

/// The first process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// `None`: the image's. `Some([])` or `Some([""])`: none at all.
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub env: Vec<String>,
    pub working_dir: String,
    /// `user[:group]` as Docker takes it; empty is root.
    pub user: String,
    pub group_add: Vec<String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// The image's shell form, kept for `inspect`.
    pub shell: Option<Vec<String>>,
    /// Rows and columns at the start.
    pub console_size: Option<(u16, u16)>,
}

impl ProcessSpec {
    /// Entry point and command joined: what is executed.
    pub fn argv(&self) -> Vec<String> {
        let entry = self.entrypoint.iter().flatten().filter(|s| !s.is_empty());
        entry.chain(self.cmd.iter().flatten()).cloned().collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortProto {
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub proto: String,
}

impl std::fmt::Display for PortProto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.port, self.proto)
    }
}

/// A wish to publish: host ports `first..=last` (`None`: any free one).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWish {
    pub container: PortProto,
    pub host_ip: Option<IpAddr>,
    pub host_ports: Option<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthSpec {
    pub test: HealthTest,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
    pub retries: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HealthTest {
    /// Take the image's.
    Inherit,
    /// `NONE`: switched off.
    None,
    Exec(Vec<String>),
    Shell(String),
}

/// A mount as asked for. `target` is absolute in the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountSpec {
    pub target: String,
    pub source: MountSource,
    pub read_only: bool,
    /// Recursively read-only where the kernel can (`ro-force-recursive` in the API is an error elsewhere).
    #[serde(default)]
    pub recursive_read_only: bool,
    /// What is mounted below stays writable.
    #[serde(default)]
    pub top_read_only: bool,
    /// Mount propagation such as `rslave`; `None` is `rprivate`.
    #[serde(default)]
    pub propagation: Option<String>,
    /// The mode words of `-v` kept for `inspect` (`ro`, `z`, …).
    #[serde(default)]
    pub mode: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    Bind {
        path: PathBuf,
        /// `-v` makes a missing host directory, `--mount` refuses.
        create_missing: bool,
        /// Without the mounts below the source.
        non_recursive: bool,
        /// Owners are shown as others.
        #[serde(default)]
        owners: Option<IdMap>,
    },
    Volume {
        /// `None`: anonymous; a name is chosen at creation and written back here.
        name: Option<String>,
        /// The engine chose the name; such volumes go with `rm -v` and `--rm`.
        anonymous: bool,
        driver: String,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
        no_copy: bool,
        subpath: Option<String>,
    },
    Tmpfs {
        size: Option<u64>,
        mode: Option<u32>,
        /// Further options such as `noexec`, `uid=1000`.
        options: Vec<String>,
    },
    Image {
        reference: String,
        subpath: Option<String>,
        /// What the reference meant at creation.
        #[serde(default)]
        image: Option<ImageId>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    pub mode: NetworkMode,
    /// Settings per network name; the first is `mode`'s own where that is a network.
    pub endpoints: Vec<EndpointWish>,
    pub ports: Vec<PortWish>,
    pub publish_all: bool,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `name:address` or `name:host-gateway`.
    pub extra_hosts: Vec<String>,
    /// `container:alias`.
    pub links: Vec<String>,
    pub mac_address: Option<String>,
    pub disabled: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The default bridge.
    #[default]
    Default,
    Host,
    None,
    /// Another container's namespace, by name or id as written.
    Container(String),
    /// A network by name or id.
    Named(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointWish {
    /// Network name or id.
    pub network: String,
    pub aliases: Vec<String>,
    pub links: Vec<String>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    /// Further addresses, good on the network's link only.
    pub link_local: Vec<IpAddr>,
    pub mac_address: Option<String>,
    pub gw_priority: i64,
    pub driver_opts: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    OnFailure {
        /// 0: without limit.
        max_retries: u32,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySpec {
    pub privileged: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub no_new_privileges: Option<bool>,
    pub seccomp: SeccompSpec,
    /// `unconfined`, a profile's name, or `None` for the default.
    pub apparmor: Option<String>,
    /// SELinux labels, kept for `inspect`.
    pub selinux: Vec<String>,
    /// `systempaths=unconfined`.
    pub unconfined_paths: bool,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub writable_cgroups: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum SeccompSpec {
    #[default]
    Default,
    Unconfined,
    /// A profile as JSON text.
    Profile(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub uts: NamespaceMode,
    pub cgroup: NamespaceMode,
    pub user: NamespaceMode,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// `ipc: shareable`, as private but others may join.
    Shareable,
    /// `ipc: none`: private without `/dev/shm`.
    None,
    Container(String),
}

/// Limits; zero or `None` is no limit. Memory in bytes, `-1` unlimited swap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub memory: u64,
    pub memory_reservation: u64,
    pub memory_swap: i64,
    pub memory_swappiness: Option<i64>,
    /// Billionths of a CPU.
    pub nano_cpus: u64,
    pub cpu_shares: u64,
    pub cpu_period: u64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// 0 and -1: unlimited.
    pub pids_limit: Option<i64>,
    pub blkio_weight: u16,
    pub block_devices: Vec<BlockLimit>,
    pub oom_kill_disable: bool,
    pub oom_score_adj: i32,
}

/// What a container may do with one block device of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockLimit {
    pub path: PathBuf,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// Bytes or operations per second.
    pub read_bps: Option<u64>,
    pub write_bps: Option<u64>,
    pub read_iops: Option<u64>,
    pub write_iops: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As in `ulimit`'s names: `nofile`, `nproc`, …
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// Some of `rwm`.
    pub permissions: String,
}

/// Where output goes. The default keeps Docker's json-file, but rotates: 5 files of 20 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// `json-file`, `local` (same file format here) or `none`.
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

/// Bytes per log file and number of files where the options name none: logs rotate by default.
const LOG_MAX_SIZE: u64 = 20 << 20;
const LOG_MAX_FILES: u32 = 5;

impl LogSpec {
    /// The most bytes a file of the log may have (`None`: no limit), and how many files are kept.
    ///
    /// # Errors
    /// A `max-size` or `max-file` that is none.
    pub fn limits(&self) -> Result<(Option<u64>, u32)> {
        let option = |key: &str| self.options.get(key).map(String::as_str);
        let max_size = match option("max-size") {
            None => Some(LOG_MAX_SIZE),
            Some("-1") => None,
            Some(text) => {
                let size = barque_model::size::parse_binary(text);
                let size = size.map_err(|_| Error::invalid(format!("invalid size: '{text}'")))?;
                Some(size).filter(|n| *n > 0)
            }
        };
        let max_files = match option("max-file").map(|text| (text, text.parse())) {
            None => LOG_MAX_FILES,
            Some((_, Ok(0))) => return Err(Error::invalid("max-file cannot be less than 1")),
            Some((_, Ok(files))) => files,
            Some((text, Err(_))) => {
                return Err(Error::invalid(format!("invalid value for log option max-file: '{text}'")));
            }
        };
        Ok((max_size, max_files))
    }
}

impl Default for LogSpec {
    fn default() -> Self {
        LogSpec { driver: "json-file".into(), options: BTreeMap::new() }
    }
}
